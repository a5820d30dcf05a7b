# cython: language_level=3, binding=False, always_allow_keywords=False, freethreading_compatible=True
"""The least that a call from Python costs: methods that do nothing or next to nothing, declared as mmgen's are (binding=False)."""
from libc.stdint cimport uint64_t


cdef class Nothing:
    def switch(self):
        pass


cdef class Increment:
    cdef volatile uint64_t word

    def switch(self):
        self.word = self.word + 1

    @property
    def switches(self):
        return self.word
