"""The same operations give the same state, bit by bit, through every entrance."""
import struct
from pathlib import Path

import building
import mmgen
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmgen import Mode, Op
from test_protocol import STARTS

pytestmark = pytest.mark.unsanitized("compiles other modules, without the sanitizer")
ENTRANCES = Path(__file__).parent / "entrances"
BEGIN = len(Op)                 # among the operations: a grace period begins
NEEDS = {Op.ONLINE: {Mode.OFFLINE}, Op.IDLE_EXIT: {Mode.IDLE}, Op.OFFLINE: {Mode.RUNNING, Mode.IDLE}}
LEAVES = {Op.IDLE_ENTER: Mode.IDLE, Op.OFFLINE: Mode.OFFLINE, Op.ONLINE: Mode.RUNNING, Op.IDLE_EXIT: Mode.RUNNING}


def possible(drawn, modes):
    """Those of the operations drawn that the CPUs' modes allow, one after the other."""
    for cpu, op in drawn:
        if op == BEGIN:
            yield cpu, op
        elif modes[cpu] in NEEDS.get(Op(op), {Mode.RUNNING}):
            modes[cpu] = LEAVES.get(Op(op), modes[cpu])
            yield cpu, op


def by_handles(gen, ops):
    cpus = [gen.cpu(i) for i in range(gen.cpus)]
    for cpu, op in struct.iter_unpack("II", ops):
        if op == BEGIN:
            gen.start_poll()
        elif getattr(cpus[cpu], Op(op).name.lower())():
            gen.wake()
    return gen.snapshot()


def by_batches(gen, ops):
    batch = b""
    for pair in (ops[i:i + 8] for i in range(0, len(ops), 8)):
        if struct.unpack("II", pair)[1] == BEGIN:
            gen.run(batch)
            gen.start_poll()
            batch = b""
        else:
            batch += pair
    gen.run(batch)
    return gen.snapshot()


def by_ctypes(gen, ops):
    address, api, _ = gen.ctypes
    for cpu, op in struct.iter_unpack("II", ops):
        if op == BEGIN:
            api.mm_gen_start_poll(address)
        elif op in (Op.SWITCH, Op.QUIESCENT):
            (api.mm_switch if op == Op.SWITCH else api.mm_gen_quiescent)(address, cpu)
        elif op == Op.TICK:
            if api.mm_gen_tick(address, cpu):
                api.mm_gen_wake(address)
        else:
            assert getattr(api, f"mm_gen_{Op(op).name.lower()}")(address, cpu) == 0
    return gen.snapshot()


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """{entrance: apply(gen, ops) -> state}, of those that are compiled in."""
    inlined = building.cython(tmp_path_factory.mktemp("inlined"), "inlined", (ENTRANCES / "inlined.pyx").read_text())
    header = building.c(tmp_path_factory.mktemp("header"), "header", (ENTRANCES / "header.c").read_text())

    def apply_inlined(gen, ops):
        assert inlined.apply(gen, ops) == 0
        return gen.snapshot()

    return {"inlined": apply_inlined,
            "header": lambda gen, ops: header.apply(gen.capsule, ops, False),
            "table": lambda gen, ops: header.apply(gen.capsule, ops, True)}


@given(cpus=st.integers(1, 4), offline=st.sets(st.integers(0, 3)), continuous=st.booleans(), patience=st.sampled_from([None, 1, 2]),
       starts=st.tuples(st.sampled_from(STARTS), st.sampled_from(STARTS)),
       drawn=st.lists(st.tuples(st.integers(0, 3), st.integers(0, BEGIN) | st.sampled_from([Op.QUIESCENT, BEGIN])), max_size=120))
@settings(deadline=None)
def test_one_state_whatever_the_entrance(modules, cpus, offline, continuous, patience, starts, drawn):
    online = set(range(cpus)) - offline
    drawn = [(cpu % cpus, op) for cpu, op in drawn]
    modes = [Mode.RUNNING if cpu in online else Mode.OFFLINE for cpu in range(cpus)]
    ops = b"".join(struct.pack("II", *pair) for pair in possible(drawn, modes))
    states = {}
    for entrance, apply in {"handles": by_handles, "batches": by_batches, "ctypes": by_ctypes, **modules}.items():
        gen = mmgen.MmGen(cpus, online=online, continuous=continuous, patience=patience, reclaimer=False,
                          first_generation=starts[0], first_switches=starts[1])
        states[entrance] = apply(gen, ops)
    assert {entrance: state for entrance, state in states.items() if state != states["handles"]} == {}


def test_the_states_tell_operations_apart(modules):
    one, other = mmgen.MmGen(2), mmgen.MmGen(2)
    assert modules["header"](one, struct.pack("2I", 0, Op.SWITCH)) != modules["header"](other, struct.pack("2I", 1, Op.SWITCH))
