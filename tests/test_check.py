"""The search of the compiled source: it closes on the protocol, refutes every broken variant, and is of this source."""
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mmgen._core
import pytest
from mmgen import cli

check = pytest.importorskip("mmgen.check", reason="steps threads as coroutines, on x86-64 and aarch64 only", exc_type=ImportError)
from mmgen.check import BROKEN, CALLS, Bounds, as_test, hooked, replay  # noqa: E402
from mmgen.check.search import open_search, short  # noqa: E402
from mmgen.check.suite import LONG, SHORT  # noqa: E402

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.unsanitized("switches stacks, which no sanitizer follows")
NAMES = list(BROKEN)


def proof_row(name):
    (row,) = [row for row in (ROOT / "docs" / "proof.md").read_text().splitlines() if row.startswith(f"| `{name}` |")]
    return row


@pytest.mark.once
@pytest.mark.parametrize("bounds", [*SHORT, *(pytest.param(bounds, marks=pytest.mark.long) for bounds in LONG)], ids=str)
def test_the_protocol_closes(bounds):
    result = check.check(bounds)
    assert result.closed, result
    assert not result.harm
    assert result.script == ()
    assert result.transitions >= result.states - 1 > 0
    assert result.drained > 1                  # not the first state alone


@pytest.mark.once
@pytest.mark.parametrize("name", NAMES)
def test_a_broken_variant_is_refuted_by_the_shortest_script(name):
    result = check.check(broken=name)
    assert result.harm
    assert len(result.script) == BROKEN[name].steps
    assert f"| {short(result.script)} |" in proof_row(name)
    script = "\n".join(result.script)
    assert replay(script, result.bounds, name) == result.harm
    assert replay("\n".join(line.split("|")[0] for line in result.script), result.bounds, name) == result.harm
    assert replay(script, result.bounds) == ""                  # the protocol itself comes to no harm by it


@pytest.mark.parametrize("name", ["one-short-on-demand", "no-idle-scan", "no-look-after-idle", "no-wake", "plain-compare",
                                  "parity-from-generation", "open-order", "no-scan-fence"])
def test_it_is_refuted_with_every_access_a_step_too(name):
    usual = check.check(broken=name)
    result = check.check(replace(BROKEN[name].bounds, every_access=True), name)
    assert result.harm == usual.harm
    assert len(result.script) >= len(usual.script)


def test_by_the_words_and_by_the_harm():
    words = check.check(replace(BROKEN["no-claim"].bounds, invariants=True), "no-claim")
    assert "without a claim" in words.harm
    assert len(words.script) < BROKEN["no-claim"].steps
    assert check.check(BROKEN["no-claim"].bounds).closed


def test_the_sketch_is_refuted_by_the_mails_own_counterexample():
    script = ["switch0", "tick0", "switch0", "WAIT", "switch1", "tick1", "tick0", "switch1", "tick1"]
    bounds = Bounds(cpus=2, ops=20, calls=frozenset({"switch", "tick", "begin", "poll"}), continuous=True)
    lines = []
    for step in script:
        lines += ["waiter0 begin" if step == "WAIT" else f"cpu{step[-1]} {step[:-1]}"]
        lines += [f"{lines[-1].split()[0]} ."] * 20             # to the end of the operation
    assert "returned early" in replay("\n".join(lines), bounds, "sketch-started")
    assert "returned early" in replay("\n".join(lines), bounds, "one-short-joining")
    assert replay("\n".join(lines), bounds) == ""


def test_what_is_searched_grows_with_the_bounds():
    def states(**bounds):
        return check.check(Bounds(**{"cpus": 1, "ops": 2} | bounds)).states

    least = states()
    assert least < states(ops=3)
    assert least < states(waits=2)
    assert least < states(waiters=2)
    assert least < states(cpus=2, preemptions=1)
    assert least < states(cpu_waits=1)
    assert least < states(calls=frozenset(CALLS[:10]) | {"close"})
    assert least < states(every_access=True)
    assert states(preemptions=0) < states(preemptions=1) < states(preemptions=2) <= states(preemptions=20)


def test_a_search_is_the_same_each_time():
    results = [check.check(Bounds(cpus=1, ops=4)) for _ in range(2)]
    assert results[0].states == results[1].states
    assert results[0].transitions == results[1].transitions


def test_the_checked_copy_is_of_this_source():
    # Each variant's edit taken out again leaves the source's own lines.
    texts = hooked.hooked(ROOT / "mmgen")
    for name, text in texts.items():
        lines = [hooked.code(line) for line in text.splitlines() if hooked.code(line)]
        while any("if broken(" in line for line in lines):
            at = max(n for n, line in enumerate(lines) if "if broken(" in line)
            depth = hooked.indent(lines[at])
            other = next(n for n in range(at, len(lines)) if lines[n] == " " * depth + "else:")
            end = next((n for n in range(other + 1, len(lines)) if hooked.indent(lines[n]) <= depth), len(lines))
            lines = lines[:at] + [line[4:] for line in lines[other + 1:end]] + lines[end:]
        source = [hooked.code(line) for line in (ROOT / "mmgen" / name).read_text().splitlines() if hooked.code(line)]
        ours = [re.sub(r"mmgen\.check\.(_\w+) cimport", r"mmgen.\1 cimport", line) for line in lines]
        extra = {line for edits in hooked.EDITS.values() for edit in edits for line in [f"    {edit.declare}"]}
        ours = [line for line in ours if line not in extra and "cimport broken" not in line]
        assert ours == [line.replace("SPINS = 64", "SPINS = 1") for line in source]


@pytest.mark.parametrize(("file", "old", "new", "message"), [
    ("_core.pyx", "target = gen + 3 ", "target = gen + 4 ", "'one-short-joining' does not fit _core.pyx: found 0 times"),
    ("_core.pyx", "    SPINS = 64 ", "    SPINS = 99 ", "is there 0 times"),
    ("_core.pyx", "cdef void hold(", "cdef void held(", "is of hold, which is nowhere"),
])
def test_a_source_that_a_variant_does_not_fit_is_refused(tmp_path, file, old, new, message):
    for name in hooked.FILES:
        shutil.copy(ROOT / "mmgen" / name, tmp_path)
    text = (tmp_path / file).read_text()
    assert text.count(old) == 1
    (tmp_path / file).write_text(text.replace(old, new))
    with pytest.raises(LookupError, match=re.escape(message)):
        hooked.hooked(tmp_path)


def test_the_package_itself_has_no_trace_of_it():
    text = Path(mmgen._core.__file__).read_bytes()
    assert b"mmgen.check" not in text
    copy = importlib.util.find_spec("mmgen.check._core").origin
    assert b"mmgen.check._steps" in Path(copy).read_bytes()


# ---- scripts and bounds ---------------------------------------------------------------------------------------------------------

def test_a_found_script_is_a_test(tmp_path):
    result = check.check(broken="no-idle-scan")
    (tmp_path / "test_found.py").write_text(as_test(result))
    (tmp_path / "test_mended.py").write_text(as_test(result).replace(", broken='no-idle-scan'", ""))
    out = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."], cwd=tmp_path, capture_output=True,
                         text=True)
    assert "1 failed, 1 passed" in out.stdout


@pytest.mark.parametrize("line", ["cpu7 tick", "cpu0", "cpu0 jump", "waiter0 tick tick", "nonsense"])
def test_a_script_that_is_not_understood(line):
    with pytest.raises(ValueError, match=r"line 2 of the script"):
        replay(f"cpu0 switch\n{line}", Bounds())


def test_a_step_that_is_not_offered_is_left_out():
    assert replay("cpu0 idle_exit\ncpu0 .\ncpu0 flush\nwaiter0 timeout\n\nwaiter0 wait | nothing began", Bounds()) == ""


@pytest.mark.parametrize("bounds", [
    {"cpus": 0}, {"cpus": 5}, {"waiters": 9}, {"ops": -1}, {"ops": 1001}, {"waits": 101}, {"preemptions": -1}, {"first_generation": 2**64},
    {"first_switches": -1}, {"calls": frozenset({"fly"})}, {"buffers": True, "waits": 2}, {"buffers": True, "calls": frozenset({"close"})},
])
def test_bounds_that_do_not_fit(bounds):
    with pytest.raises(ValueError, match=r"out of range|none of|buffers"):
        Bounds(**bounds)


def test_a_variant_that_is_not_there():
    with pytest.raises(ValueError, match="'nothing' is none of"):
        check.check(broken="nothing")


def test_one_search_at_a_time():
    search = open_search(Bounds(), None)
    with pytest.raises(RuntimeError, match="one at a time"):
        check.check(Bounds())
    search.close()
    search.close()
    assert check.check(Bounds(cpus=1, ops=1)).closed


# ---- the command ----------------------------------------------------------------------------------------------------------------

def test_the_command_lists_and_refutes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check", "--list-broken"]) == 0
    assert capsys.readouterr().out.split() == NAMES
    for number in ("", "_2"):
        assert cli.main(["check", "--broken", "no-idle-scan"]) == 1
        out, err = capsys.readouterr()
        assert out.splitlines()[-1].startswith("waiter0  .             | store goal: 2")
        assert f"test_counterexample{number}.py replays it" in err
        assert (tmp_path / f"test_counterexample{number}.py").is_file()
    assert cli.main(["check", "--broken", "no-wake", "--test", "named.py", "--json", "-"]) == 1
    out, err = capsys.readouterr()
    found = json.loads(out)[0]
    assert found["broken"] == "no-wake"
    assert len(found["script"]) == BROKEN["no-wake"].steps
    assert "named.py replays it" in err


def test_the_command_closes(capsys, tmp_path):
    assert cli.main(["check", "--cpus", "1", "--ops", "3", "--calls", "switch, tick,begin,wait", "--json", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "1 CPU, 1 waiter, 3 ops, switch+tick+begin+wait" in out
    assert out.endswith(": closed\n")
    assert json.loads((tmp_path / "out").read_text())[0]["closed"]
    assert cli.main(["check", "--max-states", "500", "--cpus", "2"]) == 3
    assert "cut short" in capsys.readouterr().out


@pytest.mark.parametrize(("argv", "message"), [
    (["--broken", "nothing"], "is none of those that --list-broken lists"),
    (["--cpus", "0"], "cpus=0 is out of range: 1 to 4"),
    (["--calls", "fly"], "'fly' is none of"),
    (["--long", "--cpus", "1"], "--long is a set of bounds of its own"),
    (["--max-states", "0"], "--max-states 0 is out of range"),
    (["--ops", "x"], "invalid int value"),
])
def test_the_command_says_what_is_wrong(argv, message, capsys):
    try:
        status = cli.main(["check", *argv])
    except SystemExit as exit:
        status = exit.code
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_an_interrupt_ends_it_with_what_it_has(tmp_path):
    search = subprocess.Popen([sys.executable, "-c", "import sys; from mmgen.cli import main; sys.exit(main())", "check", "--ops", "30"],
                              cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    time.sleep(2)
    search.send_signal(signal.SIGINT)
    out, _ = search.communicate(timeout=60)
    assert search.returncode == 130
    assert "2 CPUs, 1 waiter, 30 ops" in out
    assert "cut short" in out


@pytest.mark.parametrize("name", NAMES)
def test_the_proof_lists_it(name):
    _, _, what, _, steps, script, model, _torture, _ = (cell.strip() for cell in proof_row(name).split("|"))
    assert what == BROKEN[name].what
    assert int(steps) == BROKEN[name].steps == sum(int([*run.split(), "1"][2]) for run in script.split(", "))
    assert (model == "yes") == (name.upper().replace("-", "_") in (ROOT / "spec" / "run.py").read_text())
