"""How many instructions the hot path executes, counted by valgrind: a regression shows whatever the machine is doing besides."""
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmgen
import pytest

pytestmark = [
    pytest.mark.once,
    pytest.mark.unsanitized("counts the instructions of an ordinary build"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="knows how many instructions x86-64 takes"),
    pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind"),
]

# An operation `n` times, in a function of its own; what happens between two toggles is counted, and written under a name.
SOURCE = """
#include <valgrind/callgrind.h>
#include <mmgen.h>

#define LOOP(name, operation)                                                                                               \\
    __attribute__((noinline)) static void name(const struct mmgen_api *mmgen, struct mm_gen *g, uint64_t n)                 \\
    {                                                                                                                       \\
        (void)mmgen, (void)g;                                                                                               \\
        for (uint64_t i = 0; i < n; i++) {                                                                                  \\
            operation;                                                                                                      \\
            __asm__ __volatile__("" ::: "memory");                                                                          \\
        }                                                                                                                   \\
    }
LOOP(nothing, (void)0)
LOOP(do_switch, mm_switch(g, 0))
LOOP(do_tick, mm_gen_tick(mmgen, g, 0))
LOOP(do_both, mm_switch(g, 0); mm_gen_tick(mmgen, g, 0))
LOOP(sweep, mm_switch(g, (uint32_t)i); mm_gen_tick(mmgen, g, (uint32_t)i))

#define COUNT(name, call)               \\
    do {                                \\
        CALLGRIND_TOGGLE_COLLECT;       \\
        call;                           \\
        CALLGRIND_TOGGLE_COLLECT;       \\
        CALLGRIND_DUMP_STATS_AT(name);  \\
    } while (0)

/* n times less none: what goes before and after the loop is not in it. */
#define COUNT_LOOP(name, loop, g)                   \\
    do {                                            \\
        COUNT("no " name, loop(mmgen, g, 0));       \\
        COUNT(name, loop(mmgen, g, 100));           \\
    } while (0)

static struct mm_gen *domain(const struct mmgen_api *mmgen, uint32_t cpus)
{
    struct mm_gen *g = mmgen->mm_gen_create(cpus, cpus, 0, 0);
    for (uint32_t cpu = 0; cpu < cpus; cpu++)
        mmgen->mm_gen_online(g, cpu);
    return g;
}

void count(const struct mmgen_api *mmgen)
{
    struct mm_gen *quiet = domain(mmgen, 1), *one = domain(mmgen, 1), *many = domain(mmgen, 101), *some = domain(mmgen, 2);
    COUNT_LOOP("nothing", nothing, quiet);
    COUNT_LOOP("switch", do_switch, quiet);
    COUNT_LOOP("tick", do_tick, quiet);             /* that nobody wants */
    mmgen->mm_gen_start_poll(some);
    COUNT_LOOP("unswitched", do_tick, some);        /* that is wanted, with no switch since the last generation */
    do_both(mmgen, some, 1);
    COUNT_LOOP("again", do_both, some);             /* a switch, and a tick in a generation in which the CPU has counted */
    many->continuous = one->continuous = 1;
    COUNT_LOOP("counts", sweep, many);              /* a switch, and a tick that counts */
    COUNT_LOOP("opens", do_both, one);              /* a switch, and a tick that counts and opens the next generation */
}
"""

RUN = """
import ctypes
import sys
import mmgen

pointer = ctypes.pythonapi.PyCapsule_GetPointer
pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
from mmgen._capi import _C_API
ctypes.CDLL(sys.argv[1]).count(ctypes.c_void_p(pointer(_C_API, b"mmgen._capi._C_API")))
"""


@pytest.fixture(scope="module")
def counts(tmp_path_factory):
    """Instructions of each operation, less the loop's own."""
    where = tmp_path_factory.mktemp("counts")
    (where / "count.c").write_text(SOURCE)
    include = Path(mmgen.__file__).parent / "include"
    built = subprocess.run(["cc", "-O2", "-std=c11", "-fPIC", "-shared", f"-I{include}", where / "count.c", "-o", where / "count.so"],
                           capture_output=True, text=True, check=False)
    if "valgrind/callgrind.h" in built.stderr:
        pytest.skip("needs valgrind's headers")
    assert built.returncode == 0, built.stderr
    if subprocess.run(["valgrind", "--tool=none", "-q", sys.executable, "-S", "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("valgrind cannot run this Python")
    result = subprocess.run(["valgrind", "--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={where / 'out'}",
                             sys.executable, "-S", "-c", RUN, where / "count.so"], cwd=where, capture_output=True, text=True, timeout=600,
                            check=False, env=os.environ | {"PYTHONPATH": str(Path(mmgen.__file__).parents[1])})
    assert result.returncode == 0, result.stderr
    totals = {}
    for dump in where.glob("out.*"):
        text = dump.read_text()
        name = re.search(r"^desc: Trigger: Client Request: (.*)", text, re.MULTILINE)
        totals[name[1]] = int(re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)[1])
    each = {name: (totals[name] - totals[f"no {name}"]) / 100 for name in ("nothing", *MOST)}
    return {name: each[name] - each["nothing"] for name in MOST}


# What gcc 12 takes (3, 8, 50, 57, 67 and 80), and a tenth: another compiler may keep a few registers more.
MOST = {"switch": 4, "tick": 9, "unswitched": 55, "again": 63, "counts": 74, "opens": 88}


def test_the_hot_path_is_as_short_as_it_was(counts):
    assert {name: count for name, count in counts.items() if count > MOST[name]} == {}


def test_the_counting_counts(counts):
    assert 2 <= counts["switch"] < counts["tick"] < counts["unswitched"] < counts["again"] < counts["counts"] < counts["opens"], counts
