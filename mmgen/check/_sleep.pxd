# What mmgen/_sleep.pxd declares, for the checked copy of the source: here the control lock, the futex and a yield are steps of the search.
from mmgen._sleep cimport EBUSY, EINTR, EINVAL, ENOMEM, ESHUTDOWN, ETIMEDOUT, MM_LOW_HALF, pthread_mutex_t
from mmgen.check._steps cimport (
    mm_cpu_relax, mm_now, mm_sleep, mm_wake_all, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_unlock, sched_yield,
)
