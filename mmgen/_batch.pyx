# cython: language_level=3, freethreading_compatible=True
"""Batches: an array of operations, checked whole and then applied, in nogil code."""
import enum
import re
import sys

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

from mmgen._core cimport (
    MM_IDLE, MM_OFFLINE, MM_PROXIED, MM_RUNNING, mm_cpu_of, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online,
    mm_gen_tick, mm_gen_wake, mm_switch,
)
from mmgen._domain cimport MmGen
from mmgen._stdatomic cimport load_u32, load_u64, memory_order_relaxed

from mmgen._arguments import shown
from mmgen._cpu import Cpu
from mmgen._domain import Mode, WrongThreadError

cdef extern from "Python.h":
    ctypedef struct Py_buffer:
        void *buf
        Py_ssize_t len
    Py_buffer *PyMemoryView_GET_BUFFER(object view)

cdef enum:
    # Between two looks at signals: at most so many operations, and CPUs looked at for idle ones by those operations. Some 20 ms, each.
    MOST_OPS = 1 << 16
    MOST_LOOKS = 1 << 24


class Op(enum.IntEnum):
    """An operation of a batch, on a CPU: what the method of that name does."""

    SWITCH = MM_OP_SWITCH
    TICK = MM_OP_TICK
    QUIESCENT = MM_OP_QUIESCENT
    IDLE_ENTER = MM_OP_IDLE_ENTER
    IDLE_EXIT = MM_OP_IDLE_EXIT
    ONLINE = MM_OP_ONLINE
    OFFLINE = MM_OP_OFFLINE


Op.__module__ = "mmgen"


# ---- in C -----------------------------------------------------------------------------------------------------------------------

cdef int apply(mm_gen *g, uint32_t cpu, uint32_t op) noexcept nogil:
    if op == MM_OP_IDLE_ENTER:
        return mm_gen_idle_enter(g, cpu)
    if op == MM_OP_IDLE_EXIT:
        return mm_gen_idle_exit(g, cpu)
    if op == MM_OP_ONLINE:
        return mm_gen_online(g, cpu)
    return mm_gen_offline(g, cpu) if op == MM_OP_OFFLINE else -1


cdef size_t mm_gen_run(mm_gen *g, const mm_op *ops, size_t nr) noexcept nogil:
    # Whoever drives these CPUs is here: no other thread makes the domain grow by one of them meanwhile.
    cdef uint32_t nr_cpus = load_u32(&g.nr_cpus, memory_order_relaxed), cpu, op
    cdef size_t i
    for i in range(nr):
        cpu = ops[i].cpu
        op = ops[i].op
        if cpu >= nr_cpus:
            return i
        if op <= MM_OP_QUIESCENT:
            if load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) != MM_RUNNING:
                return i
            if op != MM_OP_TICK:
                mm_switch(g, cpu)
            if op != MM_OP_SWITCH and mm_gen_tick(g, cpu):
                mm_gen_wake(g)
        elif apply(g, cpu, op) < 0:
            return i
    return nr


# The mode in which `op` finds a CPU, and the one in which it leaves it; both plus 1, as in mm_gen_check's modes.
cdef uint8_t *AFTER = [MM_RUNNING + 1, MM_RUNNING + 1, MM_RUNNING + 1, MM_IDLE + 1, MM_RUNNING + 1, MM_RUNNING + 1, MM_OFFLINE + 1]


cdef inline bint fits(uint8_t mode, uint32_t op) noexcept nogil:
    if op <= MM_OP_IDLE_ENTER:
        return mode == MM_RUNNING + 1
    if op == MM_OP_IDLE_EXIT:
        return mode == MM_IDLE + 1
    if op == MM_OP_ONLINE:
        return mode == MM_OFFLINE + 1
    return mode != MM_OFFLINE + 1


cdef size_t mm_gen_check(mm_gen *g, const mm_op *ops, size_t nr, uint8_t *modes, uint32_t nr_cpus) noexcept nogil:
    cdef uint32_t cpu, op
    cdef uint8_t mode
    cdef size_t i
    for i in range(nr):
        cpu = ops[i].cpu
        op = ops[i].op
        if cpu >= nr_cpus or op >= MM_NR_OPS:
            return i
        mode = modes[cpu]
        if mode == 0:
            mode = load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) + 1
            if mode == MM_PROXIED + 1:
                mode = MM_IDLE + 1
            modes[cpu] = mode
        if not fits(mode, op):
            return i
        if op > MM_OP_QUIESCENT:
            modes[cpu] = AFTER[op]
    return nr


# ---- for Python -----------------------------------------------------------------------------------------------------------------

LAYOUT = 'numpy.dtype([("cpu", "u4"), ("op", "u4")])'
ORDER = "<" if sys.byteorder == "little" else ">"
CHANGED = "another thread changed the array, or a CPU's mode, meanwhile"
PAIR = re.compile(rf"T\{{[{ORDER}=@]?I:cpu:[{ORDER}=@]?I:op:\}}|[{ORDER}=@]?I|[@=]?[Bbc]")


# A view of `ops` as contiguous memory, aligned for mm_op.
cdef object pairs(object ops):
    try:
        view = memoryview(ops)
    except TypeError:
        raise TypeError(f"ops={shown(ops)} has no buffer: an array of {LAYOUT}, or its bytes") from None
    if not PAIR.fullmatch(view.format) or view.nbytes % sizeof(mm_op):
        raise ValueError(f"ops: {view.nbytes} bytes of format {shown(view.format)} are no array of {LAYOUT}, nor its bytes")
    if not view.c_contiguous or <uintptr_t>PyMemoryView_GET_BUFFER(view).buf % sizeof(uint32_t):
        view = memoryview(view.tobytes())
    return view


# What to raise for ops[i], which does not fit after those before it.
cdef object refused(MmGen gen, size_t i, mm_op op, const uint8_t *modes, uint32_t nr_cpus):
    gen._check_open()
    if op.cpu >= nr_cpus:
        raise IndexError(f"op {i}: CPU {op.cpu} is out of range: the domain has {nr_cpus} (0 to {nr_cpus - 1})")
    if op.op >= MM_NR_OPS:
        raise ValueError(f"op {i}: {op.op} is out of range: the operations are 0 (SWITCH) to {MM_NR_OPS - 1} (OFFLINE)")
    if modes[op.cpu] == 0 or fits(modes[op.cpu], op.op):
        raise RuntimeError(CHANGED)
    raise RuntimeError(f"op {i}: {method(op)}() on CPU {op.cpu}, which is {Mode(modes[op.cpu] - 1).name}")


cdef str method(mm_op op):
    return Op(op.op).name.lower()


# RuntimeError, IndexError or ValueError for the first that does not fit.
cdef object check(MmGen gen, const mm_op *ops, size_t nr, size_t part, uint32_t nr_cpus):
    cdef size_t begin, end, done
    cdef uint8_t *modes = <uint8_t *>calloc(nr_cpus, 1)
    if modes is NULL:
        raise MemoryError(f"no memory to check a batch on {nr_cpus} CPUs (a byte each)")
    try:
        for begin in range(0, nr, part):
            end = min(begin + part, nr)
            with nogil:
                done = begin + mm_gen_check(gen.g, ops + begin, end - begin, modes, nr_cpus)
            if done < end:
                refused(gen, done, ops[done], modes, nr_cpus)
            PyErr_CheckSignals()
    finally:
        free(modes)


# As run_all, in a checked domain: as its handles do, one by one.
cdef object run_checked(MmGen gen, const mm_op *ops, size_t nr):
    cdef uint64_t me = PyThread_get_thread_ident(), owner
    cdef size_t i
    for i in range(nr):
        owner = load_u64(&gen.owners[ops[i].cpu], memory_order_relaxed)
        if owner and owner != me:
            raise WrongThreadError(f"op {i}: {method(ops[i])}() on CPU {ops[i].cpu} by thread {me}: the CPU belongs to thread {owner}")
    for i in range(nr):
        if getattr(Cpu(gen, ops[i].cpu), method(ops[i]))():     # a tick's
            gen.wake()


cdef object run_all(MmGen gen, const mm_op *ops, size_t nr, size_t part):
    cdef size_t done = 0, end
    try:
        while done < nr:
            end = min(done + part, nr)
            with nogil:
                done += mm_gen_run(gen.g, ops + done, end - done)
            if done < end:
                gen._check_open()
                raise RuntimeError(CHANGED)
            PyErr_CheckSignals()
    except BaseException as error:
        error.add_note(f"The first {done} of {nr} operations were applied.")
        raise


def run(MmGen gen not None, ops, /):
    """mmgen.MmGen.run()."""
    view = pairs(ops)
    if gen.owners is not NULL:
        view = memoryview(view.tobytes())       # run_checked looks at them with the GIL released in between
    cdef const mm_op *first = <const mm_op *>PyMemoryView_GET_BUFFER(view).buf
    cdef size_t nr = PyMemoryView_GET_BUFFER(view).len // sizeof(mm_op)
    cdef uint32_t nr_cpus = load_u32(&gen.g.nr_cpus, memory_order_relaxed)      # another thread may make it grow; not for these
    cdef size_t part = max(min(MOST_OPS, MOST_LOOKS // nr_cpus), 1)
    cdef uint64_t generation = load_u64(&gen.g.generation, memory_order_relaxed)
    gen._check_open()
    check(gen, first, nr, part, nr_cpus)
    if gen.owners is NULL:
        run_all(gen, first, nr, part)
    else:
        run_checked(gen, first, nr)
    return load_u64(&gen.g.generation, memory_order_relaxed) - generation
