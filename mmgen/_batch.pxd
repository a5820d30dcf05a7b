# Batches: an array of operations, applied in one call, by who drives all the CPUs that it names.
from libc.stdint cimport uint8_t, uint32_t

from mmgen._core cimport mm_gen

cdef enum:                          # mm_op.op
    MM_OP_SWITCH
    MM_OP_TICK                      # and the wake, if it is due
    MM_OP_QUIESCENT                 # a switch, a tick and the wake, if it is due
    MM_OP_IDLE_ENTER
    MM_OP_IDLE_EXIT
    MM_OP_ONLINE
    MM_OP_OFFLINE
    MM_NR_OPS

cdef struct mm_op:                  # what happens on which CPU
    uint32_t cpu
    uint32_t op

# Apply ops[0..nr) in order. How many were: fewer than nr if ops[that] names a CPU that the domain does not have, or what is no
# operation, or what the CPU's mode does not allow (or the domain, which is closed).
cdef size_t mm_gen_run(mm_gen *g, const mm_op *ops, size_t nr) noexcept nogil

# How many mm_gen_run() would apply of those on the first nr_cpus CPUs; none is. modes: nr_cpus bytes, 0 at first; what comes after
# these operations can then be checked with the same bytes.
cdef size_t mm_gen_check(mm_gen *g, const mm_op *ops, size_t nr, uint8_t *modes, uint32_t nr_cpus) noexcept nogil
