# numpy's bit generators, as numpy/random/bitgen.h declares what their capsules hold: so that numpy is not needed to build this.
from libc.stdint cimport uint32_t, uint64_t

ctypedef struct bitgen_t:
    void *state
    uint64_t (*next_uint64)(void *state) noexcept nogil
    uint32_t (*next_uint32)(void *state) noexcept nogil
    double (*next_double)(void *state) noexcept nogil
    uint64_t (*next_raw)(void *state) noexcept nogil
