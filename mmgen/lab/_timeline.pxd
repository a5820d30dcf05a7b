# What happened when, for pictures: the mms held over the whole run, and marks of what CPUs did in a window of it.
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef enum:
    SERIES_BUCKETS = 256
    TIMELINE_MOST = 100_000             # marks
    # What a mark is about: first lab_cpu.state, the CPU's from here on.
    MARK_PAID = 5                       # its tick counted in this generation
    MARK_OPENED                         # it opened this generation
    MARK_EXITED, MARK_FREED             # this mm
    MARK_INTERRUPTED

cdef struct lab_series:                 # virtual time, cut into equal buckets
    int64_t width, next                 # ns of a bucket; when the one that is being filled ends
    uint32_t nr                         # of those that are full
    double area                         # in that one: mms held times ns
    uint64_t peak
    double areas[SERIES_BUCKETS]
    uint64_t peaks[SERIES_BUCKETS]

cdef struct lab_mark:
    int64_t ns
    uint64_t number
    uint32_t cpu
    uint32_t what

cdef struct lab_timeline:
    int64_t begin, end, until           # ns: the window, and up to when all of it is there
    uint64_t generation                 # at the last look
    uint32_t nr, room
    bint begun, full
    lab_mark *marks
    unsigned char *states               # of the CPUs, at the last look

cdef void series_begin(lab_series *s, int64_t end) noexcept nogil
cdef void series_add(lab_series *s, uint64_t held, int64_t since, int64_t now) noexcept nogil      # so many from `since` to `now`
cdef lab_timeline *timeline_begin(int64_t begin, int64_t end, uint32_t nr_cpus) noexcept nogil     # NULL: no memory
cdef void timeline_end(lab_timeline *t) noexcept nogil
cdef void timeline_mark(lab_timeline *t, int64_t ns, uint32_t cpu, uint32_t what, uint64_t number) noexcept nogil
