# cython: language_level=3, binding=False, freethreading_compatible=True
"""The least that a call from Python costs: a method that does nothing, declared as mmgen's are (binding=False)."""


cdef class Nothing:
    def switch(self):
        pass
