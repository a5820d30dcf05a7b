"""The lab's real machine: the policies on real threads, what they count, free and share, and that broken ones are found out."""
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from mmgen.lab import Case, Costs, Generation, Load, Refcount, Shootdown, UseAfterFree, measure, simulate
from mmgen.machine import MachineError
from test_cli import HERE, MMGEN, mmgen

# Idle CPUs and kernel threads that are lazy on mms that migrate, and exit elsewhere.
LOAD = Load(switch_us=50, idle=0.3, idle_us=500, kthread=0.1, kthread_us=200, exits=0.1, migrate=0.3)
SOUND = [Refcount(), Shootdown(), Shootdown(trim=True), *(Generation(idle=idle) for idle in ("hang", "drop", "kick")),
         Generation(continuous=True)]
BROKEN = [Refcount("no-grab"), Shootdown(broken="no-ipi"), Generation(broken="idle-keeps"),
          *(Generation(idle=idle, broken="one-increment") for idle in ("hang", "drop", "kick"))]


def case(policy, seconds=0.15, cpus=2, **load):
    return Case(cpus=cpus, hz=1000, seconds=seconds, policy=policy, load=Load(**vars(LOAD) | load))


@pytest.mark.parametrize("policy", SOUND, ids=str)
def test_a_policy_that_is_right(policy):
    r = measure(case(policy))
    assert (r.use_after_frees, r.first_use_after_free, r.hotplugs, r.lines) == (0, None, 0, None)
    assert r.real
    assert r.exits > 0
    assert r.exits == r.frees + r.held
    assert sum(n for _, _, n in r.latencies) == r.frees > 0
    assert 0 < r.held_mean <= r.held_peak
    assert (r.generations > 0) == isinstance(policy, Generation)
    assert (r.atomics == 0) == isinstance(policy, Shootdown)
    assert (r.ipis == 0) or not isinstance(policy, Refcount)
    assert r.seconds == pytest.approx(0.15)


@pytest.mark.parametrize("policy", BROKEN, ids=str)
def test_a_broken_one_is_found_out(policy, two_cores):
    with pytest.raises(UseAfterFree, match=r"^mm \d+ was freed while CPU [01] uses it, at \d+ ns$") as caught:
        measure(case(policy, seconds=20))
    assert caught.value.mm > 0
    assert measure(case(policy, seconds=0.3), keep_going=True).seconds == pytest.approx(0.3)


def test_every_variant_without_hotplug_is_tried():
    assert {(policy.name, policy.broken) for policy in BROKEN} | {("shootdown", "unfixed-hotplug")} == {
        (policy.name, name) for policy in (Refcount(), Shootdown(), Generation()) for name in policy.BROKEN}


@pytest.mark.parametrize("policy", [Refcount(), Shootdown(), Generation(), Generation(idle="kick", patience=1)], ids=str)
def test_more_cpus_than_cores(policy):
    cpus = 3 * len(os.sched_getaffinity(0))
    r = measure(case(policy, cpus=cpus))
    assert r.exits == r.frees + r.held
    assert r.switches > cpus


@pytest.mark.parametrize("policy", [Refcount(), Shootdown(), Generation()], ids=str)
def test_one_cpu(policy):
    r = measure(case(policy, cpus=1))
    assert r.frees > 0
    assert r.ipis == 0


def test_threads_of_one_mm_contend_for_its_count(two_cores):
    """A grab into idle and a drop out of it: an atomic for each switch, but for those that each CPU has still to make."""
    load = Load(kind="threads", mms=1, switch_us=5, idle=1, idle_us=5)
    r = measure(Case(cpus=2, seconds=0.1, policy=Refcount(), load=load))
    assert abs(r.atomics - r.switches) <= 2
    assert r.exits == 0
    assert measure(Case(cpus=2, seconds=0.1, policy=Shootdown(), load=load)).atomics == 0


@pytest.mark.parametrize("policy", [Refcount(), Generation()], ids=str)
def test_waiters(policy):
    r = measure(Case(cpus=2, hz=1000, seconds=0.2, policy=policy, load=Load(switch_us=100, waiters=3)))
    assert r.frees > 10
    assert 0 < r.held <= 3 or policy == Refcount()
    assert r.held_peak <= 3


def test_tasks_that_last_until_a_tick():
    r = measure(Case(cpus=1, hz=1000, seconds=0.2, policy=Generation(), load=Load(switch_us=None, waiters=1)))
    assert r.switches == r.ticks > 20
    assert r.frees > 0


def test_long_idle_spells_sleep():
    r = measure(Case(cpus=1, hz=100, seconds=0.5, policy=Refcount(),
                     load=Load(switch_us=10, idle=1, idle_us=100_000, distribution="fixed")))
    assert 0 < r.switches < 40


def test_an_idle_cpu_that_sleeps_answers(two_cores):
    load = Load(switch_us=50, idle=0.5, idle_us=20_000, exits=0.3, migrate=0.5)
    r = measure(case(Shootdown(), seconds=0.5, **vars(load)))
    assert r.ipis > 0
    assert r.exits == r.frees


@pytest.mark.parametrize(("fields", "says"), [
    ({"load": Load(hotplug_per_s=1)}, "hotplug_per_s=1 is out of range: 0 on real threads"),
    ({"cpus": 8193}, "cpus=8193 is out of range: 1 to 8192"),
    ({"mm_bytes": 1_000_001}, "mm_bytes=1000001 is out of range: 0 to 1000000"),
])
def test_what_a_real_machine_cannot_do(fields, says):
    with pytest.raises(ValueError, match=says):
        measure(**fields)
    with pytest.raises(TypeError, match="a mmgen.lab.Case and nothing else"):
        measure(Case(), seconds=1)


def test_by_default_a_cpu_for_each_core():
    assert measure(seconds=0.01).case.cpus == len(os.sched_getaffinity(0))


def test_show_is_told_and_may_raise():
    told = []

    def show(done, seconds):
        told.append((done, seconds))
        if len(told) == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(seconds=100, cpus=1, show=show)
    assert [0 < done < 1 and seconds > 0 for done, seconds in told] == [True] * 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmgen-lab")]


def test_a_thread_that_dies_ends_the_machine(monkeypatch):
    def fail(_, cores):
        raise OSError("no such core")

    monkeypatch.setattr(os, "sched_setaffinity", fail)
    with pytest.raises(MachineError, match=r"the thread of CPU \d died: OSError\('no such core'\)"):
        measure(seconds=100, cpus=2)


def test_the_same_case_virtual_and_real():
    """Each field, by the same name; the counts of what a CPU does are near each other where nothing else is."""
    c = case(Refcount(), cpus=1, seconds=0.3)
    virtual, real = simulate(c).to_dict(), measure(c).to_dict()
    assert virtual.keys() == real.keys()
    assert virtual["case"] == real["case"]
    assert {name for name, value in real.items() if value is None and virtual[name] is not None} == {"lines", "lines_per_s", "looks"}


def test_the_command():
    out = mmgen("lab", "measure", "--policy", "shootdown", "--exits", 0.1, "--seconds", 0.1, "--cpus", 2, "--json", "-")
    assert (out.returncode, out.stderr) == (0, "")
    r = json.loads(out.stdout)
    assert (r["real"], r["lines"], r["case"]["cpus"]) == (True, None, 2)
    out = mmgen("lab", "measure", "--seconds", 0.1)
    assert f" {len(os.sched_getaffinity(0))} CPU" in out.stdout
    assert out.stdout.endswith("  measured on real threads\n")
    assert "line transfers" not in out.stdout
    out = mmgen("lab", "measure", "--hotplug-per-s", 1)
    assert (out.returncode, len(out.stderr.splitlines())) == (2, 1)
    out = mmgen("lab", "measure", "--policy", "refcount", "--broken", "no-grab", "--idle", 0.2, "--exits", 0.1, "--cpus", 1)
    assert out.returncode == 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads of another process are seen in /proc")
def test_ctrl_c_reports_what_there_is():
    process = subprocess.Popen([*MMGEN, "lab", "measure", "--seconds", "1000", "--cpus", "1", "--json", "-"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, cwd=HERE)
    while process.poll() is None and len(list(Path(f"/proc/{process.pid}/task").iterdir())) < 2:
        time.sleep(0.05)
    time.sleep(0.5)                                             # so that its CPU has begun
    process.send_signal(2)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert 0 < json.loads(out)["seconds"] < 1000


def test_an_interpreter_may_exit_meanwhile(python):
    out = python("import threading, time; from mmgen.lab import measure\n"
                 "threading.Thread(target=measure, kwargs={'seconds': 1000, 'cpus': 1}, daemon=True).start()\n"
                 "time.sleep(0.5)\nprint('over')")
    assert (out.stdout, out.returncode) == ("over\n", 0), out.stderr


def test_costs_have_a_switch():
    load = Load(switch_us=10, distribution="fixed")
    slow, fast = (simulate(cpus=1, seconds=0.01, load=load, policy=Shootdown(), costs=Costs(switch=ns)) for ns in (10_000, 0))
    assert (fast.switches, slow.switches) == (1000, 500)
    assert slow.overhead_ns == 10_000 * slow.switches
