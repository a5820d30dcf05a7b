"""Pictures and the HTML page: what is drawn is what the results have; told apart without colour; a page that needs nothing else."""
import html.parser
import itertools
import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from mmgen.lab import Generation, Load, Refcount, compare, pictures, report, simulate
from mmgen.lab.compare import table
from test_cli import mmgen

pytestmark = [pytest.mark.once, pytest.mark.unsanitized("draws, which nothing of mmgen's own takes part in")]
LOAD = Load(exits=0.02, idle=0.3, idle_us=2000, kthread=0.02, kthread_us=3000, migrate=0.1)


@pytest.fixture(scope="module")
def results():
    return compare(LOAD, cpus=8, hz=1000, seconds=0.1, timeline=(0, 0.03)).results


@pytest.fixture(scope="module")
def rows(results):
    """As a sweep's file has them, and of several numbers of CPUs."""
    more = [r for n in (1, 3) for r in compare(LOAD, cpus=n, hz=1000, seconds=0.05).results]
    return [{"key": str(n), "result": json.loads(json.dumps(r.to_dict()))} for n, r in enumerate((*results, *more))]


def lines_of(figure):
    return [line for line in figure.axes[0].lines if line.get_linestyle() != "None" and not line.get_label().startswith("_")]


def test_against_cpus(rows):
    for name in (*pictures.AGAINST, *pictures.LATENCIES):
        lines = lines_of(pictures.against_cpus(rows, name))
        for line in lines:
            want = {}
            for row in (row["result"] for row in rows):
                value = row["latency_percentiles_ns"][name] if name in pictures.LATENCIES else row[name]
                if pictures.name_of(row["case"]["policy"]) == line.get_label() and value is not None:
                    want[row["case"]["cpus"]] = value
            assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == sorted(want.items())
        assert len(lines) == 5


def test_several_seeds_are_their_median_and_a_bar():
    results = [simulate(cpus=2, seconds=0.01, seed=seed) for seed in range(5)]
    figure = pictures.against_cpus(results)
    rates = [r.rates["switches_per_s"] for r in results]
    assert list(lines_of(figure)[0].get_ydata()) == [np.median(rates)]
    (bar,) = figure.axes[0].collections[0].get_segments()
    assert [y for _, y in bar] == [min(rates), max(rates)]


def test_latency_cdf(results):
    lines = lines_of(pictures.latency_cdf(results))
    for line, r in zip(lines, results, strict=True):
        shares = line.get_ydata()
        numbers = r.histogram()
        assert list(shares[1:]) == [sum(numbers[:n + 1, 2]) / r.frees for n in range(len(numbers))]
        assert shares[-1] == 1
        assert line.get_xdata()[-1] == max(r.latency_percentiles_ns["max"], 1)
        for ns, (least, width, _) in zip(line.get_xdata()[1:], r.latencies, strict=True):
            assert max(least, 1) <= ns < max(least + width, 2)
    (nothing,) = pictures.latency_cdf([simulate(cpus=1, seconds=0.001)]).axes[0].lines
    assert nothing.get_label() == "generation drop: none freed"


def test_held_over_time(results):
    for line, r in zip(lines_of(pictures.held_over_time(results)), results, strict=True):
        assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(begin / 1e9, mean) for begin, mean, _ in r.held_series]


def test_generations(results):
    r = results[-1]
    axes = pictures.generations(r, first=1000, cpus=4).axes[0]
    by_label = {line.get_label(): line for line in axes.lines}
    paid = by_label["its tick counted"]
    assert list(zip(paid.get_xdata(), paid.get_ydata(), strict=True)) == [
        (mark.ns / 1e6, mark.cpu) for mark in r.timeline.of("paid") if mark.cpu < 4]
    dashed = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == [mark.ns / 1e6 for mark in r.timeline.of("opened")]
    idle = [tuple(path.get_extents().intervalx) for bars in axes.collections if not bars.get_hatch() for path in bars.get_paths()]
    want = [(since / 1e6, until / 1e6) for cpu, since, until in r.timeline.spells("idle") if cpu < 4]
    assert sorted(idle) == [pytest.approx(one) for one in sorted(want)]
    assert {bars.get_hatch() for bars in axes.collections} == {"", "////"}
    few = pictures.generations(r, first=2).axes[0]
    assert sum(line.get_linestyle() == "--" for line in few.lines) == 2


def all_pictures(results, rows):
    return [pictures.against_cpus(rows), pictures.latency_cdf(results), pictures.held_over_time(results), pictures.generations(results[2])]


def test_units_and_no_reliance_on_colour(results, rows):
    for figure in all_pictures(results, rows):
        axes = figure.axes[0]
        for text in (axes.get_xlabel(), axes.get_ylabel()):
            assert re.search(r"CPU|second|ns|, s$|ms|mms", text) or "log scale" in text
        styles = [(str(line._unscaled_dash_pattern), line.get_marker()) for line in lines_of(figure)]
        assert len(set(styles)) == len(styles)
        assert {line.get_color() for line in axes.lines} == {"black"}


def test_no_two_of_many_lines_are_alike():
    drawn = [pictures.style(number) for number in range(42)]
    assert all((a["linestyle"], a["marker"]) != (b["linestyle"], b["marker"]) for a, b in itertools.combinations(drawn, 2))


def test_what_cannot_be_drawn(results):
    with pytest.raises(ValueError, match="figure='wall_s' is none of switches_per_s"):
        pictures.against_cpus(results, "wall_s")
    with pytest.raises(ValueError, match="no results"):
        pictures.latency_cdf([])
    with pytest.raises(TypeError, match="7 is no result"):
        pictures.held_over_time([7])
    with pytest.raises(TypeError, match="result=7 is no mmgen.lab.Result"):
        pictures.generations(7)
    with pytest.raises(ValueError, match="result has no timeline"):
        pictures.generations(simulate(cpus=1, seconds=0.001))
    with pytest.raises(ValueError, match="first=0 is out of range"):
        pictures.generations(results[2], first=0)


# ---- the page ---------------------------------------------------------------------------------------------------------------------

class Page(html.parser.HTMLParser):
    """What a page has."""

    VOID = {"meta", "br", "hr", "img", "link", "path", "use", "rect"}

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.open, self.cells, self.text = [], [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [tag] if tag not in self.VOID else []
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.links += [value] if name in ("src", "href", "xlink:href", "action", "data", "srcset") else []
            self.links += re.findall(r"url\(([^)]*)\)", value or "")
            assert not name.startswith("on")
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def stands_alone(text):
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(set(page.ids)) == len(page.ids)
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", text)
    return page


def test_a_page_stands_alone(results):
    text = report.page(results, title="A & <b>", command="mmgen lab compare --cpus '<8>'", notes=["One <script>alert(1)</script>."])
    page = stands_alone(text)
    assert page.tags.count("svg") == 5                  # two, and the generations under three idle rules
    assert page.cells == ["figure", "unit", *itertools.chain.from_iterable(table(results))][:2] + list(
        itertools.chain.from_iterable(table(results)))[2:]
    for said in ("A & <b>", "mmgen lab compare --cpus '<8>'", "One <script>alert(1)</script>.", report.case_text(results[0].case),
                 *report.LIMITS):
        assert said in page.text
    assert text == report.page(results, title="A & <b>", command="mmgen lab compare --cpus '<8>'",
                               notes=["One <script>alert(1)</script>."])         # the same, each time


@pytest.mark.parametrize("bad", ['<script></script>', '<img src="http://x/">', '<a href="https://x/">', '<p id="a"></p><p id="a"></p>',
                                 '<svg><use xlink:href="#none"/></svg>', "<style>@import 'x'</style>"])
def test_a_page_that_does_not_is_found(bad):
    with pytest.raises(AssertionError):
        stands_alone(f"<html>{bad}</html>")


def test_pages_of_other_results(results, rows):
    one = stands_alone(report.page([simulate(cpus=2, seconds=0.01, policy=Refcount())], title="alone"))
    assert "svg" not in one.tags
    more = [*results, *(simulate(cpus=2, seconds=0.01, load=LOAD, policy=r.case.policy) for r in results)]
    assert stands_alone(report.page(more[:6], title="more", words="of a trace")).tags.count("svg") == 7
    drawn = [("<it>", pictures.held_over_time(results))]
    assert stands_alone(report.page(results, title="t", drawn=drawn)).tags.count("svg") == 1
    with pytest.raises(ValueError, match="no results"):
        report.page([], title="none")


def test_pages_in_threads(results):
    want, pages = report.page(results, title="t"), []
    threads = [threading.Thread(target=lambda: pages.append(report.page(results, title="t"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pages == [want] * 2


def test_the_command_writes_them(tmp_path):
    arguments = ["lab", "compare", "--cpus", 4, "--seconds", 0.02, "--hz", 1000, "--exits", 0.1, "--cost", "line=50", "--trim",
                 "--timeline", 0.01]
    out = mmgen(*arguments, "--html", tmp_path / "r.html", "--json", tmp_path / "r.json", "--pictures", tmp_path / "p")
    assert (out.returncode, out.stderr) == (0, "")
    page = stands_alone((tmp_path / "r.html").read_text())
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["paragraph"] in page.text
    for r in written["results"]:                        # what the table shows is what the JSON has
        for shown in (f"{r['switches_per_s']:,.0f}", f"{r['overhead_ns_per_switch']:,.2f}", f"{r['lines_per_s']:,.0f}",
                      f"{r['held_peak']:,}", f"{r['ipis_per_s']:,.0f}",
                      f"{r['atomics_per_s']:,.0f}", f"{r['held_mean']:,.1f}", f"{r['frees']:,}",
                      f"{r['held_bytes_mean'] / 1e6:,.3f}", f"{r['held_bytes_peak'] / 1e6:,.3f}"):
            assert shown in page.cells
    files = sorted(Path(tmp_path / "p").iterdir())
    assert len(files) == 5
    assert all(file.read_text().startswith("<svg ") for file in files)
    # The command that it names makes it again, but for the time that it took.
    command = re.search(r"mmgen (lab compare .*)", page.text)[1].replace(f"--json {tmp_path}/r.json", "").split()
    command[command.index("--html") + 1] = "-"
    assert mmgen(*command).stdout.split("<h2>To make")[0] == (tmp_path / "r.html").read_text().split("<h2>To make")[0]


def test_without_matplotlib_it_says_so(python):
    script = "import sys; sys.modules['matplotlib'] = None; from mmgen.cli import main; sys.exit(main())"
    out = python(script, "lab", "compare", "--seconds", "0.001", "--html", "x")
    assert (out.returncode, out.stdout) == (2, "")
    assert "need matplotlib, which is not here" in out.stderr
    assert python(script, "lab", "compare", "--seconds", "0.001", "--cpus", "2").returncode == 0


def test_kicks_are_drawn():
    r = simulate(cpus=4, hz=1000, seconds=0.1, policy=Generation(idle="kick", patience=1), load=LOAD, timeline=(0, 1))
    labels = pictures.generations(r, first=1000).axes[0].get_legend_handles_labels()[1]
    assert {"idle", "kernel thread", "its tick counted", "an IPI", "an mm is freed", "a generation opens"} <= set(labels)
