"""compare(): every claim of its paragraph, on contrasting workloads, against the figures; the table; the command; Ctrl-C."""
import dataclasses
import json
import os
import re
import shlex
import signal
import threading
import time
from pathlib import Path

import pytest
from mmgen.lab import Case, Costs, Generation, Load, Refcount, Shootdown, UseAfterFree, compare, simulate
from mmgen.lab.compare import COLUMNS, table, table_text
from mmgen.lab.findings import differ, findings, label
from mmgen.lab.policies import name_of
from test_cli import mmgen

WORKLOADS = {
    "busy": (Load(exits=0.01, migrate=0.1), {"cpus": 64, "seconds": 0.2, "hz": 1000}),
    "shared count": (Load(kind="threads", mms=1, switch_us=1.6, idle=1.0, idle_us=1.6), {"cpus": 192, "seconds": 0.002,
                                                                                        "costs": Costs(line=1000)}),
    "idle": (Load(exits=0.05, idle=0.5, idle_us=100_000, migrate=0.1), {"cpus": 32, "seconds": 1}),
    "kernel threads": (Load(exits=0.05, kthread=0.01, kthread_us=50_000, migrate=0.1), {"cpus": 32, "seconds": 0.5}),
    "scans": (Load(exits=0.02, idle=0.5, idle_us=200, migrate=0.1), {"cpus": 256, "seconds": 0.05, "hz": 1000}),
    "calm": (Load(), {"cpus": 4, "seconds": 0.1}),
    "one waiter": (Load(switch_us=None, waiters=1), {"cpus": 16, "seconds": 0.5, "hz": 1000}),
}
# What each is about, and what it is not.
ABOUT = {
    "busy": {"cost", "wins", "rate", "latency", "held"}, "shared count": {"cost", "wins", "rate", "no exits", "scans"},
    "idle": {"cost", "wins", "rate", "latency", "held", "idle", "scans"},
    "kernel threads": {"cost", "wins", "rate", "latency", "held", "kernel threads", "kick"},
    "scans": {"cost", "wins", "rate", "latency", "held", "idle", "kick", "scans"}, "calm": {"cost", "wins", "rate", "no exits"},
    "one waiter": {"cost", "wins", "rate", "latency", "held"},
}


@pytest.fixture(scope="module")
def compared():
    return {name: compare(load, **fields) for name, (load, fields) in WORKLOADS.items()}


def number(text):
    return float(text.replace(",", ""))


def ratio_is(text, want):
    """`text`, of 1 digit after the point below 10, is `want`."""
    assert number(text) == pytest.approx(want, abs=0.051 if want < 9.95 else 0.51)


def ns_of(text):
    value, unit = text.split()
    return number(value) * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[unit]


def check(results):
    """Recompute every claim, from the figures alone."""
    by = {label(r): r for r in results}
    names = "|".join(sorted(by, key=len, reverse=True))
    said = {finding.about: finding.text for finding in findings(results)}
    hung, dropped, kicked = (by[f"generation {rule}"] for rule in ("hang", "drop", "kick"))
    cost = {name: r.overhead_ns / max(r.switches, 1) for name, r in by.items()}
    if any(cost.values()):
        least = re.match(rf"({names}) costs least, ([\d.,]+) ns", said["cost"])
        assert cost[least[1]] == min(cost.values())
        for group, ns, _, ratio in re.findall(rf"(?:; |, )((?:{names})(?: and (?:{names}))*): ([\d.,]+) ns( \(([\d.,]+) times that\))?",
                                              said["cost"]):
            for name in group.split(" and "):
                assert cost[name] == pytest.approx(number(ns), abs=0.051)
                assert cost[name] > 1.01 * cost[least[1]]
                if ratio:
                    ratio_is(ratio, cost[name] / cost[least[1]])
        assert all(name in said["cost"] for name in by)
        share = re.search(rf"most that any takes is ([\d.,e-]+) % of the CPUs' time \(({names})\)", said["cost"])
        r = by[share[2]]
        assert number(share[1]) == pytest.approx(100 * r.overhead_ns / (r.case.cpus * r.seconds * 1e9), rel=0.06)
        assert r.overhead_ns_per_switch == max(cost.values())
    else:
        assert said["cost"] == "No policy costs anything here."
    for verb, other in re.findall(r"(wins over|loses to|no more and no less than) (refcount|shootdown)", said["wins"]):
        ours = re.match(rf"By that, ({names})", said["wins"])[1]
        assert {"wins over": cost[ours] < cost[other], "loses to": cost[ours] > cost[other]}.get(
            verb, not differ(cost[ours], cost[other], 10**9, 10**9) or max(cost.values()) < 10**9)
        found = re.search(rf"{verb} {other}, ([\d.,]+) times", said["wins"])
        if found:
            ratio_is(found[1], max(cost[ours], cost[other]) / min(cost[ours], cost[other]))
    rates = {name: r.switches / r.seconds for name, r in by.items()}
    if found := re.search(rf"switches ([\d,]+) times a second under ({names}), ([\d.,]+) (times as often as|% more than) under ({names})",
                          said["rate"]):
        high, low = rates[found[2]], rates[found[5]]
        assert (high, low) == (max(rates.values()), min(rates.values()))
        assert number(found[1]) == pytest.approx(high, abs=1)
        ratio_is(found[3], high / low if "times" in found[4] else 100 * (high / low - 1))
    else:
        assert max(rates.values()) < 1.05 * min(rates.values())
    if "latency" in said:
        found = re.match(rf"From exit to free ({names}), .*?, takes ([\d.,]+ \w+) \(([\d.,]+) ticks\) at the median and ([\d.,]+ \w+)",
                         said["latency"])
        p50 = {name: r.latency_percentiles_ns["p50"] for name, r in by.items()}
        assert ns_of(found[2]) == pytest.approx(p50[found[1]], rel=0.01)
        assert number(found[3]) == pytest.approx(p50[found[1]] * by[found[1]].case.hz / 1e9, abs=0.051)
        assert ns_of(found[4]) == pytest.approx(by[found[1]].latency_percentiles_ns["p99"], rel=0.01)
        assert p50[found[1]] == min(p50[name] for name in p50 if "generation" in name and p50[name] is not None)
        loses = r"(refcount|shootdown) takes ([\d.,]+ \w+): generation loses, it waits ([\d.,]+) times"
        for other, ns, ratio in re.findall(loses, said["latency"]):
            assert ns_of(ns) == pytest.approx(p50[other], rel=0.006)
            ratio_is(ratio, p50[found[1]] / p50[other])
        for other in re.findall(r"(refcount|shootdown) takes [^;]*?generation is sooner", said["latency"]):
            assert p50[other] > p50[found[1]]
    if "held" in said:
        for name, mms, mb in re.findall(rf"({names})[a-z, ]*? ([\d.,]+) mms? \(([\d.,]+) MB\) at the mean", said["held"]):
            assert number(mms) == pytest.approx(by[name].held_mean, abs=0.51 if by[name].held_mean >= 10 else 0.06)
            assert number(mb) == pytest.approx(by[name].held_mean * by[name].case.mm_bytes / 1e6, abs=0.0051)
        assert said["held"].count("at the mean") == 3
    if "idle" in said:
        assert hung.held_mean > dropped.held_mean
        assert f"{hung.held:,} of {hung.exits:,} mms are not freed at the end" in said["idle"]
        assert ("none ever was" in said["idle"]) == (hung.frees == 0)
        assert ("never kicks" in said["idle"]) == (kicked.ipis == 0)
        ratio_is(re.search(r"([\d.,]+) times what generation drop does", said["idle"])[1], hung.held_mean / dropped.held_mean)
    if "kernel threads" in said:
        found = re.search(r"under generation drop is ([\d.,]+ \w+) .*?, ([\d.]+) such threads", said["kernel threads"])
        assert ns_of(found[1]) == pytest.approx(dropped.latency_percentiles_ns["p50"], rel=0.01)
        ratio_is(found[2], dropped.latency_percentiles_ns["p50"] / (1e3 * dropped.case.load.kthread_us))
        assert ("with generation kick" in said["kernel threads"]) == (
            kicked.latency_percentiles_ns["p50"] < 0.9 * dropped.latency_percentiles_ns["p50"])
    if "kick" in said:
        found = re.search(r"with ([\d,]+) IPIs a second, where shootdown sends ([\d,]+)", said["kick"])
        assert number(found[1]) == pytest.approx(kicked.ipis / kicked.seconds, abs=1)
        assert number(found[2]) == pytest.approx(by["shootdown"].ipis / by["shootdown"].seconds, abs=1)
    if "scans" in said:
        assert cost["generation drop"] > cost["generation hang"]
        share = re.search(r"(\d+) % of its cost is looking at CPUs, as each idle entry does at all ([\d,]+) while", said["scans"])
        want = dropped.looks * dropped.case.costs.look / dropped.overhead_ns
        assert bool(share) == (want > 0.1)
        if share:
            assert int(share[1]) == pytest.approx(100 * want, abs=0.51)
            assert number(share[2]) == dropped.case.cpus


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_claim_is_so(compared, name):
    check(compared[name].results)
    assert {finding.about for finding in findings(compared[name].results)} == ABOUT[name]
    assert compared[name].paragraph == " ".join(finding.text for finding in findings(compared[name].results))


def test_a_claim_that_is_wrong_is_found(compared, monkeypatch):
    """The figures of others: the sentences say something else."""
    results = compared["kernel threads"].results
    said = findings(results)
    check(results)
    monkeypatch.setitem(globals(), "findings", lambda _: said)
    check(results)
    for number, changes in ((4, {"overhead_ns": 10**12}), (4, {"ipis": 10**7}), (4, {"switches": 1}), (0, {"held_mean": 1e6})):
        others = list(results)
        others[number] = dataclasses.replace(results[number], **changes)
        with pytest.raises(AssertionError):
            check(others)


def test_the_results_are_those_of_simulate(compared):
    load, fields = WORKLOADS["busy"]
    results = compared["busy"].results
    assert [label(r) for r in results] == ["refcount", "shootdown", "generation hang", "generation drop", "generation kick"]
    assert all(r == simulate(Case(load=load, policy=r.case.policy, **fields)) for r in results)


def test_the_table(compared):
    results = compared["scans"].results
    rows = table(results)
    assert [row[0] for row in rows[1:]] == [name for name, _, _ in COLUMNS]
    by_name = {(row[0], row[1]): row[2:] for row in rows}
    for column, r in enumerate(results):
        assert number(by_name["IPIs", "/s"][column]) == pytest.approx(r.rates["ipis_per_s"], abs=1)
        assert number(by_name["held, peak", "MB"][column]) == pytest.approx(r.held_peak * r.case.mm_bytes / 1e6, abs=0.001)
        assert number(by_name["overhead", "ns/switch"][column]) == pytest.approx(r.overhead_ns_per_switch, abs=0.01)
    lines = table_text(results).splitlines()
    assert len({len(line) for line in lines}) == 1


def test_names():
    for policy, name in ((Generation(idle="kick", patience=9, continuous=True), "generation kick patience 9 continuous"),
                         (Shootdown(trim=True, broken="no-ipi"), "shootdown trim no-ipi")):
        assert name_of(Case(policy=policy).to_dict()["policy"]) == name


def test_what_it_refuses():
    with pytest.raises(TypeError, match="policy: it is several"):
        compare(policy=Refcount())
    with pytest.raises(TypeError, match="policy='refcount' is of type str"):
        compare(policies=["refcount"])
    with pytest.raises(ValueError, match="policies=\\(\\) is empty"):
        compare(policies=[])
    with pytest.raises(ValueError, match="cpus=0 is out of range"):
        compare(cpus=0)
    with pytest.raises(ValueError, match="no results"):
        findings([])


def test_a_broken_policy_is_named():
    load = Load(switch_us=50, idle=0.3, idle_us=500, exits=0.1, migrate=0.3)
    comparison = compare(load, policies=[Refcount("no-grab"), Shootdown(), Generation()], cpus=32, hz=1000, seconds=0.1)
    bad = comparison.results[0].use_after_frees
    assert comparison.paragraph.startswith(f"refcount no-grab FREED MMS IN USE, {bad:,} times")
    assert "refcount no-grab costs" not in comparison.paragraph
    with pytest.raises(UseAfterFree):
        simulate(comparison.results[0].case)


def test_one_alone():
    assert compare(policies=[Refcount()], cpus=1, seconds=0.001).paragraph == "There is no other policy to compare it with."


def test_ctrl_c_stops_them_all():
    before = threading.active_count()
    late = []
    for _ in range(5):                                  # the machine may be busy: one that is in time will do
        sent = []
        timer = threading.Timer(0.3, lambda sent=sent: (sent.append(time.monotonic()), os.kill(os.getpid(), signal.SIGINT)))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            compare(Load(exits=0.1, idle=0.3, migrate=0.1), cpus=4096, seconds=1e5)
        late.append(time.monotonic() - sent[0])
        timer.join()
        assert threading.active_count() <= before
        if late[-1] < 0.05:
            break
    assert min(late) < 0.05


COMPARE = ["lab", "compare", "--cpus", 8, "--seconds", 0.05, "--hz", 1000, "--exits", 0.05, "--idle", 0.2, "--migrate", 0.1]


def test_the_command(tmp_path):
    out = mmgen(*COMPARE, "--json", tmp_path / "r.json", "--patience", 2, "--trim")
    assert (out.returncode, out.stderr) == (0, "")
    head = out.stdout.splitlines()[0].split("  ")
    assert [word.strip() for word in head if word] == [
        "refcount", "shootdown trim", "generation hang", "generation drop", "generation kick patience 2"]
    written = json.loads((tmp_path / "r.json").read_text())
    assert written["paragraph"].split() == out.stdout.split("\n\n")[1].split()
    assert [r["case"]["policy"]["name"] for r in written["results"]] == ["refcount", "shootdown", *["generation"] * 3]
    assert {r["case"]["cpus"] for r in written["results"]} == {8}


@pytest.mark.parametrize(("args", "says"), [
    (["--cpus", "0"], "cpus=0 is out of range: 1 to 65536"), (["--patience", "0"], "patience=0 is out of range"),
    (["--timeline", "0"], r"timeline=\(0\.0, 0\.0\) is out of range"), (["--html", "-", "--json", "-"], "--html - and --json -"),
    (["--policy", "refcount"], "unrecognized arguments: --policy refcount"),
])
def test_a_bad_argument_is_one_line_and_status_2(args, says):
    out = mmgen("lab", "compare", *args)
    assert (out.returncode, out.stdout) == (2, "")
    assert len(out.stderr.splitlines()) == 1
    assert says in out.stderr or re.search(says, out.stderr)


@pytest.mark.once
def test_the_page_shows_what_its_command_prints():
    page = (Path(__file__).parents[1] / "docs" / "compare.md").read_text()
    command, output = re.search(r"^    mmgen (.*)\n\n```text\n(.*?)```", page, re.MULTILINE | re.DOTALL).groups()
    assert mmgen(*shlex.split(command)).stdout == output
