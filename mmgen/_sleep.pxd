# How a thread sleeps and is woken (_sleep.h), and the control lock's mutex, declared for Cython.
from libc.stdint cimport int64_t, uint32_t

cdef extern from "_sleep.h" nogil:
    int64_t mm_now() noexcept
    int mm_sleep(void *word, uint32_t seen, int64_t deadline) noexcept
    void mm_wake_all(void *word) noexcept
    void *MM_LOW_HALF(void *word) noexcept
    void mm_cpu_relax() noexcept
    int sched_yield() noexcept

    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_mutexattr_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, pthread_mutexattr_t *) noexcept
    int pthread_mutex_lock(pthread_mutex_t *) noexcept
    int pthread_mutex_unlock(pthread_mutex_t *) noexcept
    int pthread_mutex_destroy(pthread_mutex_t *) noexcept

cdef extern from "<errno.h>" nogil:
    enum: EBUSY, EINVAL, EINTR, ETIMEDOUT, ESHUTDOWN, ENOMEM, ENOSPC
