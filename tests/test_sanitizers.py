"""The sanitizers of this build see what they are there for: in the build as it is nothing, in each broken variant of it the defect."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mmgen._core
import pytest
from conftest import SANITIZER

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not SANITIZER, reason="needs tests/sanitize")

# What users of a domain do, in Cython: CPUs read a node where they find it, an updater replaces it and frees the old one.
USER = """
# cython: language_level=3
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from mmgen cimport MmGen, mm_gen_idle_enter, mm_gen_idle_exit, mm_gen_offline, mm_gen_tick, mm_gen_wait, mm_gen_wake, mm_switch
from mmgen._sleep cimport sched_yield
from mmgen._stdatomic cimport (
    atomic_u64, fetch_add_u64, load_u64, memory_order_acquire, memory_order_relaxed, memory_order_release, store_u64)

cdef struct node:
    uint64_t value

cdef atomic_u64 published, reads, done         # the last two relaxed: they order nothing

cdef uint64_t publish(uint64_t value) noexcept nogil:
    cdef node *new = <node *>malloc(sizeof(node))
    cdef uint64_t old = load_u64(&published, memory_order_relaxed)
    new.value = value
    store_u64(&published, <uint64_t>new, memory_order_release)
    return old

def begin():
    store_u64(&done, 0, memory_order_relaxed)
    store_u64(&reads, 0, memory_order_relaxed)
    free(<void *>publish(0))

def read(MmGen gen, uint32_t cpu, bint idle):
    cdef uint64_t total = 0
    cdef node *found
    cdef int _
    with nogil:
        while not load_u64(&done, memory_order_relaxed):
            if idle:
                mm_gen_idle_enter(gen.g, cpu)
                for _ in range(50):
                    sched_yield()
                mm_gen_idle_exit(gen.g, cpu)
            else:
                mm_switch(gen.g, cpu)
            found = <node *>load_u64(&published, memory_order_acquire)
            for _ in range(50):             # long enough for a waiter that was woken too early to be seen
                total += found.value
                if not idle and mm_gen_tick(gen.g, cpu):        # a CPU that idles is credited then, or never
                    mm_gen_wake(gen.g)
                sched_yield()
            fetch_add_u64(&reads, 1, memory_order_relaxed)
        mm_gen_offline(gen.g, cpu)
    return total

def update(MmGen gen, uint64_t times, bint wait):
    cdef uint64_t i, old
    with nogil:
        for i in range(times):
            # At its own time, not at the one at which the CPU that ended the last wait did so.
            while load_u64(&reads, memory_order_relaxed) < 2 * i:
                sched_yield()
            old = publish(i)
            if wait:
                mm_gen_wait(gen.g, -1)
            free(<void *>old)
        store_u64(&done, 1, memory_order_relaxed)

def wait(MmGen gen, int64_t timeout_ns):
    cdef int err
    with nogil:
        err = mm_gen_wait(gen.g, timeout_ns)
    return err
"""

# Run by pytest in a process of its own, with the conftest.py of this directory.
PROGRAM = """
import sys, threading
import mmgen, user

def run(wait=True, idle=False):
    gen = mmgen.MmGen(2)
    user.begin()
    threads = [threading.Thread(target=user.read, args=(gen, cpu, idle)) for cpu in range(2)]
    for thread in threads:
        thread.start()
    user.update(gen, 500, wait)
    for thread in threads:
        thread.join()

def test_readers_that_switch():
    run()

def test_readers_that_idle():
    run(idle=True)

def test_an_updater_that_does_not_wait():
    run(wait=False)

def test_the_longest_wait():
    gen = mmgen.MmGen(1)
    threading.Timer(0.1, gen.cpu(0).offline).start()
    assert user.wait(gen, 2**63 - 1) == 0

def test_an_end():
    for _ in range(10):
        mmgen.MmGen(2, trace=16).close()
"""

BUILD = """
import sys
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(ext_modules=cythonize([Extension(sys.argv.pop(), [sys.argv.pop()], extra_compile_args=["-O1", "-g", "-fno-wrapv"])]))
"""


def build(where, name, path):
    """The module `name`, instrumented as CFLAGS say, in place. The compiler itself need not be watched."""
    env = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "PYTHONMALLOC")}
    subprocess.run([sys.executable, "-c", BUILD, "--quiet", "build_ext", "--inplace", path, name], cwd=where, env=env, check=True)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A directory with mmgen as it was built, its user, and the program."""
    where = tmp_path_factory.mktemp("sound")
    (where / "user.pyx").write_text(USER)
    (where / "test_program.py").write_text(PROGRAM)
    shutil.copy(ROOT / "tests" / "conftest.py", where)
    shutil.copytree(Path(mmgen._core.__file__).parent, where / "mmgen", ignore=shutil.ignore_patterns("__pycache__"))
    build(where, "user", "user.pyx")
    return where


def reports(where, tests):
    """What pytest, and the sanitizers of a process that is gone, say of those of the program's tests; nothing, if all is well."""
    logs = where / "logs"
    logs.mkdir()
    env = {key: value.replace(os.environ["MMGEN_SANITIZER_LOGS"], str(logs)) for key, value in os.environ.items()}
    command = [sys.executable, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", "--rootdir", where, "-k", tests, "test_program.py",
               "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:benchmark"]
    result = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, timeout=300)
    return result.returncode and result.stdout + result.stderr + "".join(log.read_text() for log in logs.iterdir())


def test_every_module_is_instrumented():
    calls = {"thread": b"__tsan_", "address": b"__asan_", "undefined": b"__ubsan_"}
    modules = [module for module in Path(mmgen._core.__file__).parent.rglob("*.so") if module.parent.name != "check"]
    assert len(modules) == len([source for source in (ROOT / "mmgen").rglob("*.pyx") if source.parent.name != "check"])
    assert all(calls[sanitizer] in module.read_bytes() for module in modules for sanitizer in SANITIZER.split(","))


def test_what_is_sound_is_clean(sound):
    assert not reports(sound, "not does_not_wait")


@pytest.mark.parametrize(("module", "old", "new", "tests", "says"), [
    pytest.param(*variant, id=name, marks=pytest.mark.skipif(needs not in SANITIZER, reason=f"needs tests/sanitize {needs}"))
    for name, needs, *variant in [
        ("nobody waits, thread", "thread", "_core", "", "", "does_not_wait", "data race"),
        # What each order is for, on a machine that has no weaker one.
        ("the tick's decrement", "thread", "_core", "1, memory_order_acq_rel)\n    note(g, cpu, MM_TRACE_COUNT",
         "1, memory_order_relaxed)\n    note(g, cpu, MM_TRACE_COUNT", "that_switch", "data race"),
        ("the opener's store", "thread", "_core", "generation, gen + 1, memory_order_release", "generation, gen + 1, memory_order_relaxed",
         "that_switch", "data race"),
        ("the waiter's load", "thread", "_core", "generation, memory_order_acquire", "generation, memory_order_relaxed",
         "that_switch", "data race"),
        ("going idle", "thread", "_core", "MM_IDLE, memory_order_release", "MM_IDLE, memory_order_relaxed", "that_idle", "data race"),
        ("nobody waits, address", "address", "_core", "", "", "does_not_wait", "heap-use-after-free"),
        ("one generation too few", "address", "_core", "target = gen + 2", "target = gen + 1", "that_switch", "heap-use-after-free"),
        ("a trace that is kept", "address", "_trace", "free(trace.events)", "free(NULL)", "an_end", "Direct leak"),
        ("a deadline too far", "undefined", "_core", " if timeout_ns < INT64_MAX - deadline else -1", "", "longest_wait",
         "signed integer overflow"),
    ]
])
def test_what_is_broken_is_reported(sound, tmp_path, module, old, new, tests, says):
    where = tmp_path / "broken"
    shutil.copytree(sound, where, ignore=shutil.ignore_patterns("logs"))
    source = (ROOT / "mmgen" / f"{module}.pyx").read_text()
    assert old in source
    if old != new:
        (where / "mmgen" / f"{module}.pyx").write_text(source.replace(old, new))
        build(where, f"mmgen.{module}", f"mmgen/{module}.pyx")
    assert says in (reports(where, tests) or "nothing was reported")
