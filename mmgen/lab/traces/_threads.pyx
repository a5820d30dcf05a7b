# cython: language_level=3, freethreading_compatible=True
"""Threads by tid: what a recording and a list of tasks say of each."""
cimport cython
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport calloc, free

from mmgen.lab.traces._columns cimport MOST_TID


@cython.final
@cython.auto_pickle(False)
cdef class Threads:
    """What is known of each thread. A page for those that are near each other: tids are few, or close together. Not for two threads."""

    def __cinit__(self):
        self.pages = <thread **>calloc(MOST_TID // PAGE + 1, sizeof(thread *))
        if self.pages is NULL:
            raise MemoryError("no memory for threads")

    def __dealloc__(self):
        cdef int i
        if self.pages is not NULL:
            for i in range(MOST_TID // PAGE + 1):
                free(self.pages[i])
            free(self.pages)

    # NULL if there is no memory. 0 <= tid <= MOST_TID.
    cdef thread *at(self, int32_t tid) noexcept nogil:
        cdef thread **page = &self.pages[tid // PAGE]
        if page[0] is NULL:
            page[0] = <thread *>calloc(PAGE, sizeof(thread))
            if page[0] is NULL:
                return NULL
        return &page[0][tid % PAGE]

    def add(self, int tid, int tgid, bint kernel):
        """What a list of tasks says. ValueError beyond the kernel's own limit."""
        cdef thread *t
        if not (0 <= tid <= MOST_TID and 0 <= tgid <= MOST_TID):
            raise ValueError(f"tid {tid} of tgid {tgid} is out of range: 0 to {MOST_TID}")
        t = self.at(tid)
        if t is NULL:
            raise MemoryError("no memory for threads")
        t.tgid = tgid
        t.flags = <uint8_t>(t.flags | LISTED | (KERNEL if kernel else 0))

    def seen(self, int page):
        """(tid, tgid or 0, whether a kernel thread, name) of those in that page, of `pages()`, that an event or the list has."""
        cdef thread *t
        cdef int i
        found = []
        for i in range(PAGE if self.pages[page] is not NULL else 0):
            t = &self.pages[page][i]
            if t.flags & (SEEN | LISTED):
                found.append((page * PAGE + i, t.tgid, bool(t.flags & KERNEL), t.name[:t.name_len]))
        return found

    def nr_pages(self):
        """How many pages there may be."""
        return MOST_TID // PAGE + 1
