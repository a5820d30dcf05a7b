from libc.stdint cimport uint32_t

from mmgen.lab._policy cimport lab_machine

cdef enum:
    SHOOT_UNFIXED = 1       # an unplugging CPU leaves mm_cpumask while it still uses an mm lazily
    SHOOT_NOBODY            # no IPI is sent

# trim: a CPU that switches away from an mm leaves its mm_cpumask. False: no memory.
cdef bint shootdown_begin(lab_machine *m, bint trim, uint32_t broken) noexcept nogil
