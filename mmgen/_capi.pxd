# What another module was compiled for, compared with what it runs with.
from cpython.pycapsule cimport PyCapsule_Import
from libc.stdint cimport uint32_t

from mmgen._core cimport mm_callback, mm_cpu, mm_gen

cdef enum:
    MMGEN_ABI = 1                   # of every struct and inline function of the .pxd files, of mmgen.h and of its table

cdef struct mm_abi:                 # what the table begins with
    uint32_t abi
    uint32_t sizeof_api
    uint32_t sizeof_mm_gen
    uint32_t sizeof_mm_cpu
    uint32_t sizeof_mm_callback
    uint32_t max_cpus

# For a module that cimports from mmgen, as it is imported: ImportError unless the mmgen that is installed has the layouts and inline
# functions that the module was compiled with.
cdef inline int import_mmgen() except -1:
    cdef const mm_abi *found = <const mm_abi *>PyCapsule_Import("mmgen._capi._C_API", 0)
    if found.abi != MMGEN_ABI:
        raise ImportError(f"compiled for mmgen's ABI {MMGEN_ABI}; the installed mmgen has ABI {found.abi}: compile the module again")
    if (found.sizeof_mm_gen != sizeof(mm_gen) or found.sizeof_mm_cpu != sizeof(mm_cpu)
            or found.sizeof_mm_callback != sizeof(mm_callback)):
        raise ImportError(f"compiled for mm_gen, mm_cpu and mm_callback of {sizeof(mm_gen)}, {sizeof(mm_cpu)} and {sizeof(mm_callback)} "
                          f"bytes; in the installed mmgen they have {found.sizeof_mm_gen}, {found.sizeof_mm_cpu} and "
                          f"{found.sizeof_mm_callback}: compile the module again")
    return 0
