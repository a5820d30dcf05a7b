"""Events: what a domain keeps of them, and the Perfetto trace they become."""
import sys
import threading
import time
from collections import defaultdict
from itertools import pairwise
from typing import NamedTuple

import mmgen
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmgen import Mode, perfetto, timeline
from mmgen._trace import TraceEvent
from mmgen._trace import TraceEvent as E
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb


def turn(gen, *cpus):
    """Each of the CPUs switches and ticks."""
    for cpu in cpus:
        gen.switch(cpu)
        if gen.tick(cpu):
            gen.wake()


def events(gen):
    """The events of each ring, without their times, which must be in order."""
    rings = gen._events()
    assert all(a[0] <= b[0] <= time.monotonic_ns() for ring in rings for a, b in pairwise(ring))
    return [[(TraceEvent(what), argument) for _, what, argument in ring] for ring in rings]


# ---- what is kept

def test_a_wait_step_by_step():
    gen = mmgen.MmGen(2, trace=64)
    turn(gen, 0, 1)                                                 # nobody waits
    assert events(gen) == [[(E.ONLINE, 0)], [(E.ONLINE, 0)], []]
    cookie = gen.start_poll()
    assert not gen.tick(0)
    turn(gen, 0, 1, 0)
    gen.tick(0)
    turn(gen, 1)
    assert gen.wait_for(cookie, 0)
    assert events(gen) == [
        [(E.ONLINE, 0), (E.TICK, 0), (E.COUNT, 0), (E.TICK, 0), (E.TICK, 1), (E.COUNT, 1), (E.TICK, 1)],
        [(E.ONLINE, 0), (E.TICK, 0), (E.COUNT, 0), (E.OPEN, 1), (E.TICK, 1), (E.COUNT, 1), (E.OPEN, 2)],
        [(E.WAIT_BEGIN, 2), (E.WAIT_END, 2)],
    ]
    assert not gen.wait(0)                                          # ran out of time: no end
    assert events(gen)[2][2:] == [(E.WAIT_BEGIN, 4)]


def test_cpus_that_come_go_idle_and_are_kicked():
    gen = mmgen.MmGen(2, online=1, trace=64, kick=lambda holdouts: None)
    gen.cpu(1).online()
    gen.cpu(0).idle_enter()
    gen.cpu(0).idle_exit()
    assert not gen.wait(0, expedite=True)
    gen.cpu(1).offline()
    assert events(gen) == [
        [(E.ONLINE, 0), (E.IDLE_ENTER, 0), (E.IDLE_EXIT, 0), (E.KICK, 0)],
        [(E.ONLINE, 0), (E.KICK, 0), (E.OFFLINE, 0)],
        [(E.WAIT_BEGIN, 2)],
    ]


@pytest.mark.parametrize(("trace", "kept"), [(1, 1), (2, 2), (5, 8), (64, 64)])
def test_a_ring_keeps_the_newest(trace, kept):
    gen = mmgen.MmGen(1, trace=trace, continuous=True)
    turn(gen, *[0] * 100)
    last = [(E.ONLINE, 0), *((what, nr + (what is E.OPEN)) for nr in range(100) for what in (E.TICK, E.COUNT, E.OPEN))]
    assert events(gen) == [last[-kept:], []]


@pytest.mark.parametrize("trace", [-1, 2**24 + 1, "many"])
def test_a_size_that_does_not_fit(trace):
    with pytest.raises((ValueError, TypeError)):
        mmgen.MmGen(1, trace=trace)


def test_nothing_is_kept_unless_asked_for(tmp_path):
    with pytest.raises(ValueError, match="keeps no events"):
        mmgen.MmGen(1).export_trace(tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


def test_many_threads_lose_nothing():
    gen = mmgen.MmGen(1, trace=2 * 8 * 1000)
    stop = threading.Event()

    def wait():
        for _ in range(1000):
            gen.wait()

    def drive():
        while not stop.is_set():
            turn(gen, 0)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    driver = threading.Thread(target=drive)
    for thread in [*threads, driver]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    driver.join()
    ring = gen._events()[-1]
    begun, ended = (sorted(cookie for _, what, cookie in ring if what == kind) for kind in (E.WAIT_BEGIN, E.WAIT_END))
    assert len(begun) == 8000
    assert begun == ended


# ---- the export

class Item(NamedTuple):
    """A slice, or (begin == end) an instant."""

    begin: int
    end: int
    name: str
    notes: dict
    flows: tuple = ()
    flows_end: tuple = ()


class ReadBack:
    """A trace that was written, as its tracks' items; that every slice ends, in what encloses it, is checked on the way."""

    def __init__(self, path):
        trace = pb.Trace()
        trace.ParseFromString(path.read_bytes())
        snapshot, domain = trace.packet[0].clock_snapshot, trace.packet[1].track_descriptor
        assert snapshot.primary_trace_clock == snapshot.clocks[0].clock_id == pb.BUILTIN_CLOCK_MONOTONIC == 3
        assert domain.process.process_name == "mmgen"
        tracks = {p.track_descriptor.uuid: p.track_descriptor for p in trace.packet[2:] if p.HasField("track_descriptor")}
        assert {track.parent_uuid for track in tracks.values()} <= {domain.uuid}
        self.items = defaultdict(list)
        for track in tracks.values():
            self.items[track.name] += []
        opened = {uuid: [] for uuid in tracks}
        packets = [p for p in trace.packet if p.HasField("track_event")]
        assert all(a.timestamp <= b.timestamp for a, b in pairwise(packets))
        for packet in packets:
            assert packet.timestamp_clock_id == pb.BUILTIN_CLOCK_MONOTONIC
            assert packet.trusted_packet_sequence_id
            event, t_ns = packet.track_event, packet.timestamp
            track = opened[event.track_uuid]
            notes = {a.name: a.string_value if a.HasField("string_value") else a.uint_value for a in event.debug_annotations}
            item = Item(t_ns, t_ns, event.name, notes, tuple(event.flow_ids), tuple(event.terminating_flow_ids))
            if event.type == pb.TrackEvent.TYPE_SLICE_BEGIN:
                assert not track, "no slice of these is to be in another"
                track.append(item)
            elif event.type == pb.TrackEvent.TYPE_SLICE_END:
                self.items[tracks[event.track_uuid].name].append(track.pop()._replace(end=t_ns))
            else:
                self.items[tracks[event.track_uuid].name].append(item)
        assert not any(opened.values())

    def named(self, track, prefix):
        """The items of a track whose name begins so, by their begin."""
        return sorted((item for item in self.items[track] if item.name.startswith(prefix)), key=lambda item: item[:2])

    def check_flows(self):
        """Every wait's arrow leads from its begin to its end, over no tick or one."""
        begin, over, end = {}, {}, {}
        for track, items in self.items.items():
            for item in items:
                where = begin if track == "waits" else over
                assert not where.keys() & set(item.flows)
                where.update(dict.fromkeys(item.flows, item))
                end.update(dict.fromkeys(item.flows_end, item))
        assert begin.keys() == end.keys()
        assert over.keys() <= end.keys()
        assert {item.name for item in over.values()} <= {"open"}
        for flow, asked in begin.items():
            assert (asked.name, end[flow].name) == ("asked", "returned")
            assert asked.begin <= over.get(flow, asked).begin <= end[flow].begin
        assert sorted((begin[flow].begin, end[flow].begin) for flow in begin) == [w[:2] for w in self.named("waits", "wait for")]
        return len(begin), len(over)


def export(gen, path):
    gen.export_trace(path)
    return ReadBack(path)


@pytest.mark.parametrize("first", [0, 7, 2**64 - 2])
def test_a_wait_exported(tmp_path, first):
    gen = mmgen.MmGen(3, online=2, trace=64, first_generation=first)
    cookie = gen.start_poll()
    turn(gen, 1, 0, 1, 0)
    assert gen.wait_for(cookie, 0)
    trace = export(gen, tmp_path / "trace")
    assert set(trace.items) == {"waits", "generations", "CPU 0", "CPU 1", "CPU 2"}
    assert trace.items["CPU 2"] == []
    numbers = [(first + i) % 2**64 for i in range(3)]
    generations = trace.named("generations", "")
    assert [g.name for g in generations] == [f"generation {nr}" for nr in numbers]
    assert [g.notes["generation"] for g in generations] == numbers
    wait, = trace.named("waits", "wait for")
    assert (wait.name, wait.notes) == (f"wait for {numbers[2]}", {"cookie": numbers[2]})
    for cpu in range(2):
        owed = trace.named(f"CPU {cpu}", "generation")
        assert [s.notes for s in owed] == [{"generation": nr, "ended by": "count"} for nr in numbers[:2]]
        assert [s.begin for s in owed] == [wait.begin, generations[1].begin]        # owed only from when somebody waited
        counts = [t for t, what, _ in gen._events()[cpu] if what == E.COUNT]
        assert [s.end for s in owed] == [counts[0], counts[1]]
        assert [t.notes["generation"] for t in trace.named(f"CPU {cpu}", "tick")] == numbers[:2]
        assert len(trace.named(f"CPU {cpu}", "online")) == 1
    assert trace.check_flows() == (1, 1)


def test_what_is_owed_ends_by_idling_going_offline_or_not_at_all(tmp_path):
    gen = mmgen.MmGen(4, trace=64, kick=lambda holdouts: None)
    turn(gen, 0)
    assert not gen.wait(0, expedite=True)
    gen.cpu(1).idle_enter()
    gen.cpu(2).offline()
    turn(gen, 0)
    gen.cpu(1).idle_exit()
    gen.cpu(1).idle_enter()
    trace = export(gen, tmp_path / "trace")
    owed = [trace.named(f"CPU {cpu}", "generation") for cpu in range(4)]
    assert [[s.notes["ended by"] for s in slices] for slices in owed] == [["count"], ["idle_enter"], ["offline"], ["the trace's end"]]
    assert [len(trace.named(f"CPU {cpu}", "kick")) for cpu in range(4)] == [1, 1, 1, 1]
    assert [len(trace.named(f"CPU {cpu}", "idle")) for cpu in range(4)] == [0, 1, 0, 0]         # the second lasts no time yet
    under_way, = trace.named("waits", "grace period until 2")
    assert under_way.notes == {"cookie": 2, "asked for": 1, "is": "under way"}
    assert trace.check_flows() == (0, 0)


def test_who_idled_while_nobody_waited_owes(tmp_path):
    gen = mmgen.MmGen(2, trace=64)
    for _ in range(2):
        gen.start_poll()
        turn(gen, 0, 1, 0, 1)
        gen.cpu(0).idle_enter()
        gen.cpu(0).idle_exit()
    gen.start_poll()
    turn(gen, 1)
    owed = export(gen, tmp_path / "trace").named("CPU 0", "generation")
    assert [tuple(s.notes.values()) for s in owed] == [*((nr, "count") for nr in range(4)), (4, "the trace's end")]


def test_waits_that_share_a_cookie_or_are_not_waited_for(tmp_path):
    gen = mmgen.MmGen(1, trace=64)
    cookies = [gen.start_poll() for _ in range(5)]
    assert [cookie.generation for cookie in cookies] == [2, 3, 3, 3, 3]
    turn(gen, 0, 0, 0)
    assert all(gen.wait_for(cookie, 0) for cookie in [*cookies[1:3], cookies[0], cookies[0]])
    trace = export(gen, tmp_path / "trace")
    assert sorted(w.notes["cookie"] for w in trace.named("waits", "wait for")) == [2, 3, 3]
    assert [w.notes for w in trace.named("waits", "grace period")] == [{"cookie": 3, "asked for": 2, "is": "over"}]
    assert [w.notes for w in trace.named("waits", "returned") if w.notes] == [{"cookie": 2}]     # once more: its begin is taken
    assert trace.check_flows() == (3, 3)


def test_generations_that_left_no_event(tmp_path):
    """A waiter counts for the idle, and opens generations that way."""
    perfetto.write(tmp_path / "trace", [[(100, E.ONLINE, 0), (101, E.IDLE_ENTER, 0)], [
        (102, E.WAIT_BEGIN, 2), (103, E.WAIT_END, 2), (104, E.WAIT_BEGIN, 4), (105, E.OPEN, 4), (106, E.WAIT_END, 4)]])
    trace = ReadBack(tmp_path / "trace")
    assert trace.named("generations", "generation") == [(103, 105, "generations 2 to 3", {"generation": 2}, (), ()),
                                                        (105, 106, "generation 4", {"generation": 4}, (), ())]
    assert trace.named("CPU 0", "") == [(100, 100, "online", {}, (), ()), (101, 106, "idle", {}, (), ())]
    assert trace.check_flows() == (2, 1)


def test_an_empty_trace(tmp_path):
    trace = export(mmgen.MmGen(2, online=0, trace=1), tmp_path / "trace")
    assert dict(trace.items) == {"generations": [], "CPU 0": [], "CPU 1": []}


@pytest.mark.parametrize("size", [4096, 16])
@pytest.mark.parametrize(("workload", "hz"), [("busy", 1000), ("idle", 1000), (mmgen.Busy(0), None)])
def test_a_machine_exported(tmp_path, workload, hz, size):
    with mmgen.Machine(2, hz=hz, workload=workload, trace=size) as machine:
        for _ in range(20):
            assert machine.gen.wait(30)
        ReadBack.check_flows(export(machine.gen, tmp_path / "live"))
    trace = export(machine.gen, tmp_path / "trace")
    waits, over = trace.check_flows()
    assert {"CPU 0", "CPU 1", "generations", "waits"} <= set(trace.items)
    if size == 16:
        assert 0 < waits <= 8
        return
    assert waits == 20
    for cpu in range(2):
        owed = [s.notes["generation"] for s in trace.named(f"CPU {cpu}", "generation")]
        assert owed == sorted(set(owed))
    if workload == "busy":
        assert over > 10                                            # who opens may be slower to say so than who returns
        generations = {g.notes["generation"]: g for g in trace.named("generations", "generation ")}
        for wait in trace.named("waits", "wait for"):
            assert generations[wait.notes["cookie"] - 1].end <= wait.end


rings = st.lists(st.lists(st.tuples(st.integers(0, 60), st.sampled_from([int(what) for what in E]),
                                    st.integers(0, 6).map(lambda nr: (nr - 3) % 2**64)), max_size=30), min_size=1, max_size=4)


@given(rings=rings)
def test_whatever_the_rings_have_lost(tmp_path_factory, rings):
    *cpus, others = rings
    path = tmp_path_factory.getbasetemp() / "whatever"
    opened = set()
    for ring in cpus:                                               # each generation is opened once
        ring[:] = [e for e in ring if e[1] != E.OPEN or not (e[2] in opened or opened.add(e[2]))]
    perfetto.write(path, [*cpus, [(t_ns, E.WAIT_BEGIN + what % 2, argument) for t_ns, what, argument in others]])
    ReadBack(path).check_flows()


@given(steps=st.lists(st.tuples(st.sampled_from(["turn", "turn", "wait", "idle", "online", "switch", "tick"]), st.integers(0, 2)),
                      max_size=60),
       first=st.sampled_from([0, 2**64 - 2]))
def test_who_owed_what_at_any_time(steps, first):
    """What is told of each CPU, against a look at the domain after each step."""
    gen = mmgen.MmGen(3, trace=1024, first_generation=first)
    cookies, looks = [], []
    for step, cpu in steps:
        handle = gen.cpu(cpu)
        if step == "wait":
            cookies.append(gen.start_poll())
        elif handle.mode is Mode.OFFLINE:
            if step == "online":
                handle.online()
        elif step == "online":
            handle.offline()
        elif handle.mode is Mode.IDLE:
            handle.idle_exit()
        elif step == "idle":
            handle.idle_enter()
        else:
            if step != "tick":
                gen.switch(cpu)
            if step != "switch" and gen.tick(cpu):
                gen.wake()
        wanted = not all(map(gen.poll, cookies))
        owing = {holdout.index for holdout in gen.holdouts()} if wanted else set()
        doing = [[None] if gen.cpu(nr).mode is Mode.IDLE else [gen.generation] if nr in owing else [] for nr in range(3)]
        looks.append((time.monotonic_ns(), gen.generation, doing))
    *cpus, others = timeline.ordered(gen._events())
    everything = sorted([e for ring in [*cpus, others] for e in ring], key=timeline.by_time)
    turns = timeline.wants(timeline.openings(cpus, everything), everything)
    opened = {e.gen % 2**64 for e in everything if e.what is E.OPEN}
    for cpu, ring in enumerate(cpus):
        spells = list(timeline.spells(ring, turns, time.monotonic_ns()))
        for t_ns, generation, doing in looks:
            told = [spell.gen if spell.gen is None else spell.gen % 2**64 for spell in spells if spell.begin <= t_ns < spell.end]
            assert told == doing[cpu] or generation not in opened   # what no tick opened is not heard of at once


def test_without_perfetto(tmp_path, monkeypatch):
    gen = mmgen.MmGen(1, trace=1)
    monkeypatch.delitem(sys.modules, "mmgen.perfetto")
    monkeypatch.setitem(sys.modules, "perfetto.trace_builder.proto_builder", None)
    with pytest.raises(ImportError, match=r"pip install 'mmgen-grace\[trace\]'"):
        gen.export_trace(tmp_path / "trace")


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        mmgen.MmGen(1, trace=1).export_trace(tmp_path / "nowhere" / "trace")
