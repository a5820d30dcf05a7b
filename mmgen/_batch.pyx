# cython: language_level=3, freethreading_compatible=True
"""Batches: an array of operations, checked whole and then applied, in nogil code."""
import enum
import re
import sys

from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport INT64_MAX, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

from mmgen._core cimport (
    MM_IDLE, MM_OFFLINE, MM_PROXIED, MM_RUNNING, mm_cpu_of, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_online,
    mm_gen_tick, mm_gen_wake, mm_switch,
)
from mmgen._domain cimport MmGen
from mmgen._sleep cimport mm_now
from mmgen._stdatomic cimport atomic_u64, cas_u64, load_u32, load_u64, memory_order_relaxed, store_u64

from mmgen._arguments import shown
from mmgen._domain import Mode, WrongThreadError

cdef extern from "Python.h":
    ctypedef struct Py_buffer:
        void *buf
        Py_ssize_t len
    Py_buffer *PyMemoryView_GET_BUFFER(object view)

cdef extern from *:
    """
    /* An operation as it is now, its CPU the low half. Its memory may be anybody's and change meanwhile: what is checked must be what is
       applied, so it is read once, which volatile says. */
    typedef uint64_t __attribute__((aligned(4), may_alias)) mm_op_word;
    static inline uint64_t mm_op_look(const void *op)
    {
        uint64_t word = *(const volatile mm_op_word *)op;
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = word << 32 | word >> 32;
    #endif
        return word;
    }
    """
    uint64_t mm_op_look(const mm_op *op) noexcept nogil

cdef enum:
    # How long a batch goes on without a look at signals, and without the GIL; and between two looks at the clock: how many operations, and
    # how many CPUs those look at that look at each for idle ones. A million take 5 to 20 ms.
    SLICE_NS = 10_000_000
    MOST_OPS = 1 << 14
    MOST_LOOKS = 1 << 18


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
#
# Most operations are switches. Both passes take these four at a time: counting them one by one would cost as much as they do. And as
# MM_OP_SWITCH is 0, one comparison says of both words that they are a switch of a CPU that there is.

cdef inline bint switched(mm_gen *g, const mm_op *op, uint32_t nr_cpus) noexcept nogil:
    cdef uint64_t look = mm_op_look(op)
    if look >= nr_cpus or load_u32(&mm_cpu_of(g, look).mode, memory_order_relaxed) != MM_RUNNING:
        return False
    mm_switch(g, look)
    return True


# How many of the first are switches, and now done.
cdef size_t run_switches(mm_gen *g, const mm_op *ops, size_t nr, uint32_t nr_cpus) noexcept nogil:
    cdef size_t i = 0
    while nr - i >= 4:
        if not switched(g, ops + i, nr_cpus):
            return i
        if not switched(g, ops + i + 1, nr_cpus):
            return i + 1
        if not switched(g, ops + i + 2, nr_cpus):
            return i + 2
        if not switched(g, ops + i + 3, nr_cpus):
            return i + 3
        i += 4
    while i < nr and switched(g, ops + i, nr_cpus):
        i += 1
    return i


cdef inline bint applied_rare(mm_gen *g, uint32_t cpu, uint32_t op) noexcept nogil:
    if op == MM_OP_IDLE_ENTER:
        return mm_gen_idle_enter(g, cpu) == 0
    if op == MM_OP_IDLE_EXIT:
        return mm_gen_idle_exit(g, cpu) == 0
    if op == MM_OP_ONLINE:
        return mm_gen_online(g, cpu) == 0
    return op == MM_OP_OFFLINE and mm_gen_offline(g, cpu) == 0


# Whether it could be done; if so, looks is less by the CPUs that it may have looked at for idle ones.
cdef inline bint applied(mm_gen *g, uint32_t cpu, uint32_t op, int64_t *looks) noexcept nogil:
    if op <= MM_OP_QUIESCENT:
        if load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) != MM_RUNNING:
            return False
        if op != MM_OP_TICK:
            mm_switch(g, cpu)
        if op == MM_OP_SWITCH or not mm_gen_tick(g, cpu):
            return True
        mm_gen_wake(g)
    elif not applied_rare(g, cpu, op):
        return False
    looks[0] -= load_u32(&g.nr_cpus, memory_order_relaxed)
    return True


# As mm_gen_run, until the looks are used up.
cdef size_t run_some(mm_gen *g, const mm_op *ops, size_t nr, int64_t *looks) noexcept nogil:
    # Whoever drives these CPUs is here: no other thread makes the domain grow by one of them meanwhile.
    cdef uint32_t nr_cpus = load_u32(&g.nr_cpus, memory_order_relaxed)
    cdef uint64_t look
    cdef size_t i = run_switches(g, ops, nr, nr_cpus)
    while i < nr and looks[0] > 0:
        look = mm_op_look(ops + i)
        if <uint32_t>look >= nr_cpus or not applied(g, <uint32_t>look, look >> 32, looks):
            break
        i += 1
        if look >> 32 == MM_OP_SWITCH:              # and more, it may be
            i += run_switches(g, ops + i, nr - i, nr_cpus)
    return i


cdef size_t mm_gen_run(mm_gen *g, const mm_op *ops, size_t nr) noexcept nogil:
    cdef int64_t looks = INT64_MAX
    return run_some(g, ops, nr, &looks)


# The mode in which each operation leaves a CPU, plus 1, as in mm_gen_check's modes.
cdef uint8_t *AFTER = [MM_RUNNING + 1, MM_RUNNING + 1, MM_RUNNING + 1, MM_IDLE + 1, MM_RUNNING + 1, MM_RUNNING + 1, MM_OFFLINE + 1]


cdef inline bint fits(uint8_t mode, uint32_t op) noexcept nogil:
    if op <= MM_OP_IDLE_ENTER:
        return mode == MM_RUNNING + 1
    if op == MM_OP_IDLE_EXIT:
        return mode == MM_IDLE + 1
    if op == MM_OP_ONLINE:
        return mode == MM_OFFLINE + 1
    return mode != MM_OFFLINE + 1


cdef inline bint may_switch(const mm_op *op, const uint8_t *modes, uint32_t nr_cpus) noexcept nogil:
    cdef uint64_t look = mm_op_look(op)
    return look < nr_cpus and modes[look] == MM_RUNNING + 1


cdef size_t check_switches(const mm_op *ops, size_t nr, const uint8_t *modes, uint32_t nr_cpus) noexcept nogil:
    cdef size_t i = 0
    while nr - i >= 4:
        if not may_switch(ops + i, modes, nr_cpus):
            return i
        if not may_switch(ops + i + 1, modes, nr_cpus):
            return i + 1
        if not may_switch(ops + i + 2, modes, nr_cpus):
            return i + 2
        if not may_switch(ops + i + 3, modes, nr_cpus):
            return i + 3
        i += 4
    while i < nr and may_switch(ops + i, modes, nr_cpus):
        i += 1
    return i


cdef size_t mm_gen_check(mm_gen *g, const mm_op *ops, size_t nr, uint8_t *modes, uint32_t nr_cpus) noexcept nogil:
    cdef uint64_t look
    cdef uint32_t cpu, op
    cdef uint8_t mode
    cdef size_t i = check_switches(ops, nr, modes, nr_cpus)
    while i < nr:
        look = mm_op_look(ops + i)
        cpu = <uint32_t>look
        op = look >> 32
        if cpu >= nr_cpus or op >= MM_NR_OPS:
            break
        mode = modes[cpu]
        if mode == 0:
            mode = load_u32(&mm_cpu_of(g, cpu).mode, memory_order_relaxed) + 1
            if mode == MM_PROXIED + 1:
                mode = MM_IDLE + 1
            modes[cpu] = mode
        if not fits(mode, op):
            break
        i += 1
        if op == MM_OP_SWITCH:
            i += check_switches(ops + i, nr - i, modes, nr_cpus)
        elif op > MM_OP_QUIESCENT:
            modes[cpu] = AFTER[op]
    return i


# ---- a batch of Python's: a pass to check, one to check who owns the CPUs, one to apply ------------------------------------------

cdef enum:
    CHECK, OWN, APPLY

cdef struct batch:
    mm_gen *g
    atomic_u64 *owners                  # NULL unless the domain is checked
    uint64_t me
    uint8_t *modes                      # mm_gen_check's
    uint32_t nr_cpus                    # another thread may make it grow; not for these


# Before anything is applied, and with the modes checked: a CPU that is offline is first brought online, which makes it the caller's.
cdef size_t owned(const batch *b, const mm_op *ops, size_t nr) noexcept nogil:
    cdef uint32_t cpu
    cdef uint64_t owner
    cdef size_t i
    for i in range(nr):
        cpu = <uint32_t>mm_op_look(ops + i)
        if cpu >= b.nr_cpus:
            return i
        owner = load_u64(&b.owners[cpu], memory_order_relaxed)
        if owner and owner != b.me and load_u32(&mm_cpu_of(b.g, cpu).mode, memory_order_relaxed) != MM_OFFLINE:
            return i
    return nr


# As run_some, in a checked domain; who owns a CPU is seen to as its handle does.
cdef size_t run_owned(const batch *b, const mm_op *ops, size_t nr, int64_t *looks) noexcept nogil:
    cdef uint64_t look, owner
    cdef uint32_t cpu, op
    cdef mm_op now
    cdef size_t i = 0
    while i < nr and looks[0] > 0:
        look = mm_op_look(ops + i)
        cpu = <uint32_t>look
        op = look >> 32
        if cpu >= b.nr_cpus:
            break
        owner = 0
        if (op != MM_OP_ONLINE and not cas_u64(&b.owners[cpu], &owner, b.me, memory_order_relaxed, memory_order_relaxed)
                and owner != b.me):
            break
        if op == MM_OP_OFFLINE:
            store_u64(&b.owners[cpu], 0, memory_order_relaxed)          # before another thread may find it offline
        now.cpu = cpu
        now.op = op
        if not run_some(b.g, &now, 1, looks):
            break
        if op == MM_OP_ONLINE:
            store_u64(&b.owners[cpu], b.me, memory_order_relaxed)
        i += 1
    return i


# How many of ops[0..nr) a pass has got through: all, unless its time was up, or the next is refused.
cdef size_t slice_of(const batch *b, int what, const mm_op *ops, size_t nr, bint *refused) noexcept nogil:
    cdef int64_t end = mm_now() + SLICE_NS, looks
    cdef size_t done = 0, most, nr_done
    while done < nr:
        most = min(nr - done, <size_t>MOST_OPS)
        looks = MOST_LOOKS
        if what == CHECK:
            nr_done = mm_gen_check(b.g, ops + done, most, b.modes, b.nr_cpus)
        elif what == OWN:
            nr_done = owned(b, ops + done, most)
        elif b.owners is NULL:
            nr_done = run_some(b.g, ops + done, most, &looks)
        else:
            nr_done = run_owned(b, ops + done, most, &looks)
        done += nr_done
        if nr_done < most and looks > 0:
            refused[0] = True
            break
        if mm_now() >= end:
            break
    return done


# ---- for Python -----------------------------------------------------------------------------------------------------------------

LAYOUT = 'numpy.dtype([("cpu", "u4"), ("op", "u4")])'
ORDER = "<" if sys.byteorder == "little" else ">"
PAIR = re.compile(rf"T\{{[{ORDER}=@]?I:cpu:[{ORDER}=@]?I:op:\}}|[{ORDER}=@]?I|[@=]?[Bbc]")


cdef object pairs(object ops):
    try:
        view = memoryview(ops)
    except TypeError:
        raise TypeError(f"ops={shown(ops)} has no buffer: an array of {LAYOUT}, or its bytes") from None
    if not PAIR.fullmatch(view.format) or view.nbytes % sizeof(mm_op):
        raise ValueError(f"ops: {view.nbytes} bytes of format {shown(view.format)} are no array of {LAYOUT}, nor its bytes")
    return view


def _parts(view):
    """`view` as contiguous memory that is aligned for mm_op: itself, or copies, each of some rows, so that none takes long."""
    if view.c_contiguous and <uintptr_t>PyMemoryView_GET_BUFFER(view).buf % sizeof(uint32_t) == 0:
        yield view
    elif view.ndim == 0 or view.nbytes == 0:
        yield memoryview(view.tobytes())
    else:
        # Eight rows of whatever size are whole operations.
        rows = max(MOST_OPS * sizeof(mm_op) // (view.nbytes // view.shape[0]) // 8, 1) * 8
        for begin in range(0, view.shape[0], rows):
            yield memoryview(view[begin:begin + rows].tobytes())


# What to raise for the operation at position i, which a pass has refused, though it may have changed since.
cdef object refusal(MmGen gen, const batch *b, int what, size_t i, uint64_t look):
    cdef uint32_t cpu = <uint32_t>look, op = look >> 32
    cdef uint64_t owner = 0
    gen._check_open()
    if what == CHECK:
        if cpu >= b.nr_cpus:
            return IndexError(f"op {i}: CPU {cpu} is out of range: the domain has {b.nr_cpus} (0 to {b.nr_cpus - 1})")
        if op >= MM_NR_OPS:
            return ValueError(f"op {i}: {op} is out of range: the operations are 0 (SWITCH) to {MM_NR_OPS - 1} (OFFLINE)")
        if b.modes[cpu] and not fits(b.modes[cpu], op):
            return RuntimeError(f"op {i}: {Op(op).name.lower()}() on CPU {cpu}, which is {Mode(b.modes[cpu] - 1).name}")
    elif cpu < b.nr_cpus and op < MM_NR_OPS:
        if b.owners is not NULL:
            owner = load_u64(&b.owners[cpu], memory_order_relaxed)
        if owner and owner != b.me:
            return WrongThreadError(f"op {i}: {Op(op).name.lower()}() on CPU {cpu} by thread {b.me}: the CPU belongs to thread {owner}")
    return RuntimeError(f"op {i}: another thread changed the array, or a CPU's mode, meanwhile")


# One pass over all operations.
cdef object go_over(MmGen gen, object view, const batch *b, int what):
    cdef const mm_op *ops
    cdef size_t before = 0, done = 0, nr
    cdef bint refused = False
    try:
        for part in _parts(view):
            ops = <const mm_op *>PyMemoryView_GET_BUFFER(part).buf
            nr = PyMemoryView_GET_BUFFER(part).len // sizeof(mm_op)
            while done < nr:
                with nogil:
                    done += slice_of(b, what, ops + done, nr - done, &refused)
                if refused:
                    raise refusal(gen, b, what, before + done, mm_op_look(ops + done))
                PyErr_CheckSignals()
            before += nr
            done = 0
    except BaseException as error:
        if what == APPLY or not refused:
            nr = before + done if what == APPLY else 0
            error.add_note(f"The first {nr} of {view.nbytes // sizeof(mm_op)} operations were applied.")
        raise


def run(MmGen gen not None, ops, /):
    """mmgen.MmGen.run()."""
    cdef batch b
    cdef uint64_t generation = load_u64(&gen.g.generation, memory_order_relaxed)
    view = pairs(ops)
    gen._check_open()
    b.g = gen.g
    b.owners = gen.owners
    b.me = PyThread_get_thread_ident()
    b.nr_cpus = load_u32(&gen.g.nr_cpus, memory_order_relaxed)
    b.modes = <uint8_t *>calloc(b.nr_cpus, 1)
    if b.modes is NULL:
        raise MemoryError(f"no memory to check a batch on {b.nr_cpus} CPUs (a byte each)")
    try:
        go_over(gen, view, &b, CHECK)
        if b.owners is not NULL:
            go_over(gen, view, &b, OWN)
    finally:
        free(b.modes)
    go_over(gen, view, &b, APPLY)
    return load_u64(&gen.g.generation, memory_order_relaxed) - generation
