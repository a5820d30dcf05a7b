"""The batches, compiled against the installed package as any other user's module would be."""
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

N = 1_000_000


@pytest.fixture(scope="session")
def batches(tmp_path_factory):
    build = tmp_path_factory.mktemp("batches")
    shutil.copy(Path(__file__).parent / "batches.pyx", build)
    subprocess.run([sys.executable, "-m", "Cython.Build.Cythonize", "--quiet", "--inplace", "batches.pyx"], cwd=build, check=True,
                   capture_output=True)
    spec = importlib.util.spec_from_file_location("batches", next(build.glob("batches.*.so")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def batch(benchmark):
    """Benchmark call(*args, n): n operations in one call; ns per operation go to extra_info, from the median round."""
    if hasattr(os, "sched_setaffinity"):
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})

    def run(call, *args, n=N):
        benchmark.pedantic(call, (*args, n), rounds=30, warmup_rounds=2)
        if benchmark.stats:
            benchmark.extra_info["ns_per_op"] = round(benchmark.stats.stats.median / n * 1e9, 3)

    yield run
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    rows = [(b.name, b.extra_info["ns_per_op"]) for b in session.benchmarks if "ns_per_op" in b.extra_info] if session else []
    if rows:
        terminalreporter.section("ns per operation (median round)")
        for name, ns in rows:
            terminalreporter.line(f"{name.removeprefix('test_'):<28} {ns:>10.2f}")
