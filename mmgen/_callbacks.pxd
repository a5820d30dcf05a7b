# Callbacks that run after a grace period, in the order in which they were deferred.
#
# The callback is the caller's own memory (a first member, say, of what is to be freed) until its function is called; nothing here
# allocates, nor needs Python. Any thread may call any of these, at any time.
from libc.stdint cimport int64_t, uint64_t

from mmgen._core cimport mm_callback, mm_gen

# Run fn(callback) after a grace period, by whoever calls mm_gen_run_callbacks() then. 0, or -ESHUTDOWN: the domain is closed, and
# the callback still the caller's.
cdef int mm_gen_defer(mm_gen *g, mm_callback *callback, void (*fn)(mm_callback *callback) noexcept nogil) noexcept nogil

# Run what is due, at most `limit` callbacks; how many. One thread at a time: another that calls meanwhile runs none.
cdef size_t mm_gen_run_callbacks(mm_gen *g, size_t limit) noexcept nogil

# Sleep until all that was deferred before the call has run: 0, -ETIMEDOUT, -EINTR, -ESHUTDOWN.
cdef int mm_gen_barrier(mm_gen *g, int64_t timeout_ns) noexcept nogil
cdef void mm_gen_wake_barriers(mm_gen *g) noexcept nogil                # a part of mm_gen_run_callbacks
cdef int mm_gen_barrier_until(mm_gen *g, uint64_t nr_deferred, int64_t timeout_ns) noexcept nogil

# The cookie of the first that has not run; False: there is none.
cdef bint mm_gen_first_callback(mm_gen *g, uint64_t *cookie) noexcept nogil
cdef uint64_t mm_gen_nr_deferred(mm_gen *g) noexcept nogil
cdef uint64_t mm_gen_nr_run(mm_gen *g) noexcept nogil

# All that have not run, a list by `next`, taken out of the domain: they never will.
cdef mm_callback *mm_gen_take_callbacks(mm_gen *g) noexcept nogil
