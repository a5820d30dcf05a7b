from libc.stdint cimport uint32_t, uint64_t

from mmgen._core cimport mm_gen
from mmgen.lab._policy cimport lab_machine

cdef enum:
    # What an idle CPU without a tick does with the mm that it uses lazily.
    IDLE_HANG = 0           # keeps it, and holds everybody up, as in the sketch
    IDLE_DROP               # leaves it, and says so: mm_gen_idle_enter
    IDLE_KICK               # keeps it; a CPU that has ticked `patience` times in a generation has the holdouts interrupted
    # Broken variants.
    GEN_ONE_INCREMENT = 1   # a wait takes one generation
    GEN_IDLE_KEEPS          # an idle CPU says that it left the mm, and did not

# False: no memory.
cdef bint generation_begin(lab_machine *m, uint32_t idle, uint32_t patience, bint continuous, uint32_t broken) noexcept nogil
cdef mm_gen *generation_domain(lab_machine *m) noexcept nogil
