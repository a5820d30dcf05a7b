# A domain's beginning and end.
from libc.stdint cimport uint32_t, uint64_t

from mmgen._core cimport mm_gen

# A new domain, every CPU offline, that mm_gen_register may let grow to max_cpus; NULL without memory. close wakes every sleeper
# with -ESHUTDOWN. destroy frees: after close, when no thread is in a call any more, nor owes a wake. after_fork, in a child before
# anything else, marks its copy: MM_DRIVERLESS, nothing in it works but close and destroy.
cdef mm_gen *mm_gen_create(uint32_t nr_cpus, uint32_t max_cpus, uint64_t first_generation, uint64_t first_switches) noexcept nogil
cdef void mm_gen_close(mm_gen *g) noexcept nogil
cdef void mm_gen_after_fork(mm_gen *g) noexcept nogil
cdef void mm_gen_destroy(mm_gen *g) noexcept nogil

# What a look from outside may ask.
cdef int mm_gen_state(mm_gen *g) noexcept nogil
cdef uint64_t mm_gen_nr_waits(mm_gen *g) noexcept nogil
