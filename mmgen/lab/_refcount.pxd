from mmgen.lab._policy cimport lab_machine

# broken: a lazy entry is not counted.
cdef void refcount_begin(lab_machine *m, bint broken) noexcept nogil
