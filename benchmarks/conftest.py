"""Pairs of loops, timed in turn; the table at the end; results.json."""
import json
import os
import sys
from ctypes.util import find_library
from datetime import UTC, datetime
from pathlib import Path

import compiled
import host
import pytest
from rows import ROUNDS, Rows

RESULTS = Path(__file__).parent / "results.json"
rows_key = pytest.StashKey[Rows]()


class Stopwatch:
    """The clock that pytest-benchmark reads. It goes on while ours runs, and stands still while a peer does."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


stopwatch = Stopwatch()


def pytest_addoption(parser):
    parser.addoption("--results", metavar="FILE", help="write the results there; by default, where all was run, to benchmarks/results.json")


def pytest_configure(config):
    make_room(config)
    config.stash[rows_key] = Rows(host.describe(), host.load())


def make_room(config):
    """Begin again with liburcu loaded from the start, as in a program that is linked with it.

    Only then are the thread-local words that its inline functions use at a fixed distance from the thread's pointer (they are aligned to
    128 bytes, for which there is no room later). Otherwise each use would be a call, and the peer slower than it is.
    """
    libraries = [found for flavour in ("qsbr", "memb", "mb") if (found := find_library(f"urcu-{flavour}"))]
    preloaded = os.environ.get("LD_PRELOAD", "").split(":")
    others = [library for library in preloaded if library and library not in libraries]
    if libraries and not set(libraries) <= set(preloaded):
        if Path(sys.argv[0]).name not in ("pytest", "py.test", "__main__.py"):
            return                                      # within another program: the peer is skipped
        config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, os.environ | {"LD_PRELOAD": ":".join(libraries + others)})
    if libraries:
        os.environ["LD_PRELOAD"] = ":".join(others)     # not for the compiler


def pytest_collection_modifyitems(items):
    for item in items:
        if {"pair", "timed"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.benchmark(timer=stopwatch))


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    return tmp_path_factory.mktemp("build")


@pytest.fixture(scope="session")
def ours(build):
    """{name: module} of what is compiled from Cython here."""
    return {name: compiled.extension(name, build) for name in compiled.OURS}


@pytest.fixture
def batch(ours):
    """batch(name, gen, cpu=0): a loop over mmgen's own operations."""
    return ours["batches"].Batch


@pytest.fixture(scope="session")
def peer(build):
    """peer(name): its library. Skips where the machine does not have it."""
    loaded = {}

    def load(name):
        if name not in loaded:
            try:
                loaded[name] = compiled.peer(name, build)
            except compiled.MissingError as error:
                loaded[name] = str(error)
        if isinstance(loaded[name], str):
            pytest.skip(loaded[name])
        return loaded[name]

    return load


@pytest.fixture(scope="session")
def rows(pytestconfig):
    """Where results go."""
    return pytestconfig.stash[rows_key]


@pytest.fixture
def core():
    """The core that the test's thread is pinned to while it runs."""
    mine, _ = host.cores()
    if mine is not None:
        host.pin(mine)
    yield mine
    host.pin(*host.ALLOWED)


@pytest.fixture
def other(core):
    """pin(), for the thread that goes on the other core. Skips where there is none."""
    _, there = host.cores()
    if there is None:
        pytest.skip("needs two cores that a thread can be pinned to")
    return lambda: host.pin(there)


@pytest.fixture
def pair(benchmark, ours, rows, request, core):
    """pair(row, ours, theirs, ...): time the two loops in turn, `rounds` times; the row goes to the table and to results.json.

    It returns how many rounds there were, those that do not count among them; one, with --benchmark-disable.
    """

    def run(key, mine, theirs, *, n, n_theirs=None, rounds=ROUNDS, warm_up=ROUNDS, pin=None, **beside):
        n_theirs = n_theirs or n
        meter = ours["meter"].Meter(mine, theirs, pin=pin, **beside)
        samples = []

        def once():
            ns = meter.round(n, n_theirs)
            stopwatch.seconds += ns[0] / 1e9
            samples.append((ns[0] / n, ns[1] / n_theirs))

        try:
            benchmark.pedantic(once, rounds=rounds, warmup_rounds=warm_up)
        finally:
            meter.close()
        timed = samples[-rounds:]                   # all but the warm-up
        benchmark.extra_info.update(rows.add(key, [s[0] for s in timed], [s[1] for s in timed] if theirs else None, n=n))
        return len(samples)

    return run


@pytest.fixture
def timed(benchmark, rows):
    """timed(row, round, ...): as pair, for what times itself: round() returns (ns of ours, ns of theirs), of n operations each."""

    def run(key, once, *, n=1, rounds=31):
        samples = []

        def one():
            ns = once()
            stopwatch.seconds += ns[0] / 1e9
            samples.append((ns[0] / n, ns[1] / n))

        benchmark.pedantic(one, rounds=rounds, warmup_rounds=1)
        timed = samples[-rounds:]
        benchmark.extra_info.update(rows.add(key, [s[0] for s in timed], [s[1] for s in timed], n=n))
        return len(samples)

    return run


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash[rows_key]
    if rows.found:
        terminalreporter.section("ours beside theirs (medians, and the quartiles of the ratio)")
        for line in rows.table():
            terminalreporter.line(line)
    for line in rows.notes:
        terminalreporter.line(line)


def pytest_sessionfinish(session, exitstatus):
    rows = session.config.stash[rows_key]
    option = session.config.getoption("--results")
    skipped = [report.nodeid for report in session.config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", [])]
    if not rows.found:
        return
    whole = (not session.testsfailed and session.testscollected == len(session.items) and not session.config.option.keyword
             and not session.config.option.markexpr and [Path(arg).resolve() for arg in session.config.args] == [RESULTS.parent]
             and not session.config.getoption("benchmark_disable"))
    if option or whole:
        path = Path(option) if option else RESULTS
        result = {"when": datetime.now(UTC).strftime("%Y-%m-%d"),
                  "command": "pytest benchmarks/" if whole else "a part of it",
                  "skipped": skipped, **rows.as_json(host.load())}
        path.write_text(json.dumps(result, indent=1) + "\n")
        rows.notes.append(f"written to {path}")
    else:
        rows.notes.append("not written to results.json: not everything was run, or something failed")
