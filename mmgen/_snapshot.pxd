# A domain's state as bytes, the same on every machine.
from libc.stdint cimport int64_t, uint8_t, uint32_t

from mmgen._core cimport mm_gen

# What a snapshot of a domain of nr_cpus takes, in bytes.
cdef size_t mm_snapshot_size(uint32_t nr_cpus) noexcept nogil

# Write the state of a domain in which no thread is in a call that names a CPU: how many bytes, or -ENOSPC: more than `size`;
# -EBUSY: callbacks are pending, or a thread is in such a call; -ESHUTDOWN.
cdef int64_t mm_gen_snapshot(mm_gen *g, void *state, size_t size) noexcept nogil

# A new domain in that state; NULL if it is no snapshot, or there is no memory.
cdef mm_gen *mm_gen_restore(const void *state, size_t size) noexcept nogil

# NULL, or why it is no snapshot. Beyond that, load() puts it into a new domain of as many CPUs, all offline, with the same max_cpus.
cdef const char *mm_snapshot_fault(const uint8_t *state, size_t size) noexcept nogil
cdef void mm_snapshot_load(mm_gen *g, const uint8_t *state) noexcept nogil
