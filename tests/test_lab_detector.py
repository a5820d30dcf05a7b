"""The detector of uses after free: silent on the policies, and on each broken variant loud, with the mm, the CPU and the time."""
import pickle
import re

import pytest
from conftest import ALONE
from mmgen.lab import Case, Generation, Load, Refcount, Shootdown, UseAfterFree, simulate

# No Python in what they look at, nor a second thread.
pytestmark = [pytest.mark.once, *ALONE]

# Idle CPUs and kernel threads that are lazy on mms that migrate, and exit elsewhere; and CPUs that are unplugged.
LOAD = Load(switch_us=50, idle=0.3, idle_us=500, kthread=0.1, kthread_us=200, exits=0.1, migrate=0.3, hotplug_per_s=2000)
VARIANTS = [Refcount("no-grab"), Shootdown(broken="unfixed-hotplug"), Shootdown(trim=True, broken="unfixed-hotplug"),
            Shootdown(broken="no-ipi"), Generation(broken="idle-keeps"),
            *(Generation(idle=idle, broken="one-increment") for idle in ("hang", "drop", "kick"))]
SOUND = [Refcount(), Shootdown(), Shootdown(trim=True), *(Generation(idle=idle) for idle in ("hang", "drop", "kick"))]


def case(policy, **load):
    return Case(cpus=32, hz=1000, seconds=0.3, policy=policy, load=Load(**vars(LOAD) | load))


@pytest.mark.parametrize("policy", VARIANTS, ids=str)
def test_a_broken_variant_is_caught(policy):
    with pytest.raises(UseAfterFree, match=r"^mm \d+ was freed while CPU \d+ uses it, at \d+ ns$") as caught:
        simulate(case(policy))
    assert 0 <= caught.value.cpu < 32
    assert caught.value.mm > 0
    assert 0 < caught.value.ns < 300_000_000


@pytest.mark.parametrize("policy", VARIANTS, ids=str)
def test_it_may_go_on_and_count(policy):
    r = simulate(case(policy), keep_going=True)
    with pytest.raises(UseAfterFree) as caught:
        simulate(case(policy))
    assert r.first_use_after_free == (caught.value.mm, caught.value.cpu, caught.value.ns)
    assert r.use_after_frees >= 1
    assert r.seconds == pytest.approx(0.3)


@pytest.mark.parametrize("policy", SOUND, ids=str)
def test_a_sound_one_is_not(policy):
    r = simulate(case(policy))
    assert (r.use_after_frees, r.first_use_after_free) == (0, None)
    assert r.exits > 2000
    assert r.hotplugs > 300
    assert r.frees > 0


@pytest.mark.parametrize("trim", [False, True])
def test_the_unfixed_hotplug_race_needs_hotplug(trim):
    assert simulate(case(Shootdown(trim=trim, broken="unfixed-hotplug"), hotplug_per_s=0)).use_after_frees == 0


def test_every_variant_is_tried():
    assert {(policy.name, policy.broken) for policy in VARIANTS} == {
        (policy.name, name) for policy in (Refcount(), Shootdown(), Generation()) for name in policy.BROKEN}


def test_the_error_can_be_sent_on():
    error = pickle.loads(pickle.dumps(UseAfterFree(3, 1, 20)))
    assert re.fullmatch("mm 3 was freed while CPU 1 uses it, at 20 ns", str(error))
