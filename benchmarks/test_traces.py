"""How fast recorded machines are read and written, by form, events a second: pytest benchmarks/test_traces.py.

The events are those of one recorded machine over and over, a million of each form; perf script's text of them is 190 MB.
"""
import gzip
from pathlib import Path

import pytest

traces = pytest.importorskip("mmgen.lab.traces", reason="needs numpy", exc_type=ImportError)

DATA = Path(__file__).parents[1] / "tests" / "data"
EVENTS = 1_000_000
LEAST = 1e6                             # events a second, of every form


def repeated(form, folder, packed=False):
    """The lines of `mixed` in that form, until there are EVENTS of them. Times go back where it begins anew: there is sorting to do."""
    text = gzip.decompress((DATA / f"mixed.{form}.gz").read_bytes())
    path = folder / f"{form}{'.gz' if packed else ''}"
    copies = EVENTS // text.count(b"\n") + 1
    path.write_bytes(gzip.compress(text * copies, 1) if packed else text * copies)
    return path


def measured(benchmark, events, call):
    benchmark.pedantic(call, rounds=5, warmup_rounds=1)
    if benchmark.stats:
        benchmark.extra_info["events_per_s"] = round(events / benchmark.stats.stats.median)
        assert events / benchmark.stats.stats.min > LEAST               # others may be at work on this machine


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("form", ["perf-script.txt", "ftrace.txt"])
def test_read_a_recording(benchmark, tmp_path, form, packed):
    path = repeated(form, tmp_path, packed)
    measured(benchmark, len(traces.read(path)), lambda: traces.read(path))


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_read_a_mmtrace(benchmark, tmp_path, packed):
    trace = traces.read(repeated("perf-script.txt", tmp_path))
    path = tmp_path / f"x.mmtrace.tsv{'.gz' if packed else ''}"
    traces.write(trace, path)
    assert len(traces.read(path)) == len(trace)
    measured(benchmark, len(trace), lambda: traces.read(path))


def test_write_a_mmtrace(benchmark, tmp_path):
    trace = traces.read(repeated("perf-script.txt", tmp_path))
    measured(benchmark, len(trace), lambda: traces.write(trace, tmp_path / "x.mmtrace.tsv"))
