# cython: language_level=3, freethreading_compatible=True
"""What happened when, for pictures. The series is always kept: a compare each time that an mm exits or is freed. Marks where asked for."""
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc


cdef void series_begin(lab_series *s, int64_t end) noexcept nogil:
    s.width = s.next = max((end + SERIES_BUCKETS - 1) // SERIES_BUCKETS, 1)


cdef void series_add(lab_series *s, uint64_t held, int64_t since, int64_t now) noexcept nogil:
    while now >= s.next and s.nr < SERIES_BUCKETS:
        s.areas[s.nr] = s.area + <double>held * <double>(s.next - since)
        s.peaks[s.nr] = max(s.peak, held)
        s.nr += 1
        s.area = 0
        s.peak = 0
        since = s.next
        s.next += s.width
    if now > since:                             # what changes as a bucket begins was not in it
        s.area += <double>held * <double>(now - since)
        s.peak = max(s.peak, held)


cdef lab_timeline *timeline_begin(int64_t begin, int64_t end, uint32_t nr_cpus) noexcept nogil:
    cdef lab_timeline *t = <lab_timeline *>calloc(1, sizeof(lab_timeline))
    if t is NULL:
        return NULL
    t.begin = begin
    t.end = end
    t.room = nr_cpus + 1 + TIMELINE_MOST        # how the window begins is beside
    t.marks = <lab_mark *>malloc(t.room * sizeof(lab_mark))
    t.states = <unsigned char *>calloc(nr_cpus, 1)
    if t.marks is NULL or t.states is NULL:
        timeline_end(t)
        return NULL
    return t


cdef void timeline_end(lab_timeline *t) noexcept nogil:
    if t is not NULL:
        free(t.marks)
        free(t.states)
        free(t)


cdef void timeline_mark(lab_timeline *t, int64_t ns, uint32_t cpu, uint32_t what, uint64_t number) noexcept nogil:
    if t.full or ns < t.begin or ns >= t.end:
        return
    if t.nr == t.room:
        t.full = True
        t.until = ns
        return
    t.marks[t.nr].ns = ns
    t.marks[t.nr].number = number
    t.marks[t.nr].cpu = cpu
    t.marks[t.nr].what = what
    t.nr += 1
