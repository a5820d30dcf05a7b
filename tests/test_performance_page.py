"""docs/performance.md says what benchmarks/results.json has, and misses no target in silence."""
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.once, pytest.mark.unsanitized("reads the source")]


@pytest.fixture
def report(monkeypatch):
    """benchmarks/report.py, which imports what is beside it."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    spec = importlib.util.spec_from_file_location("report", ROOT / "benchmarks" / "report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("row", ["switch_increment", "table_switch"])
def test_the_tables_are_those_of_the_results(report, row):
    results = json.loads(report.RESULTS.read_text())
    pages = {path: path.read_text() for path in report.PAGES}
    assert {path: report.filled(path, results) for path in pages} == pages, "python benchmarks/report.py makes them"
    # One figure off would be seen.
    results["rows"][row]["ours"] *= 2
    assert {path: report.filled(path, results) for path in pages} != pages


def test_every_plot_is_there(report):
    page = report.PAGE.read_text()
    named = [line.split("(")[1].split(")")[0] for line in page.splitlines() if line.startswith("![")]
    assert len(named) == 3
    for name in named:
        assert (report.PAGE.parent / name).read_text().count("<path") > 10


def test_the_memory_is_what_it_should_be(report):
    memory = json.loads(report.RESULTS.read_text())["memory"]
    assert memory["bytes_per_cpu"] == 64
    assert memory["resident_per_cpu"] < 65
