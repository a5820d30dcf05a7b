"""A domain's events as a Perfetto trace, for ui.perfetto.dev: which CPU kept whom waiting, and for how long.

    waits           each from when it was asked for until it returned; an arrow leads over the tick that opened its last generation.
                    Grace periods that nobody was seen to return from are one slice for each cookie, until they were over.
    generations     each from when it opened until the next did, several together where not all left an event
    CPU n           "generation g" while the CPU owed g a switch that somebody wanted: until its tick counted it, or it went idle or
                    offline; "idle"; its ticks, kicks, the generations that it opened; where it came online and went offline
"""
import itertools
import os
import random
from collections import defaultdict
from collections.abc import Iterable
from heapq import heappop, heappush, merge
from pathlib import Path
from typing import NamedTuple

from mmgen._trace import TraceEvent
from mmgen.timeline import MODES, Event, Wait, by_time, openings, ordered, spells, waits, wants

try:
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import BUILTIN_CLOCK_MONOTONIC, TrackDescriptor, TrackEvent
    from perfetto.trace_builder.proto_builder import TraceProtoBuilder
except ImportError as _error:
    raise ImportError("export_trace() needs the package perfetto: pip install 'mmgen-grace[trace]'") from _error

INSTANTS = {TraceEvent.TICK, TraceEvent.KICK, TraceEvent.OPEN, TraceEvent.ONLINE, TraceEvent.OFFLINE}

Notes = dict[str, int | str]


def write(path: str | os.PathLike[str], events: list[list[tuple[int, int, int]]]) -> None:
    """Write `events`, lists of (t_ns, what, argument), one for each CPU and the last for everybody else, to the file `path`."""
    *cpus, others = ordered(events)
    everything = list(merge(*cpus, others, key=by_time))
    begin, end = (everything[0].t_ns, everything[-1].t_ns) if everything else (0, 0)
    opened = openings(cpus, everything)
    turns = wants(opened, everything)
    trace = Trace(begin)
    flows = draw_waits(trace, waits(others, opened, end), {e.gen: e.t_ns for e in everything if e.what is TraceEvent.OPEN})
    track = trace.track("generations", 1)
    known = list(opened.items())
    for (gen, since), (following, until) in itertools.pairwise([*known, *((gen + 1, end) for gen, _ in known[-1:])]):
        name = named("generation", gen) if following == gen + 1 else f"{named('generations', gen)} to {(following - 1) % 2**64}"
        trace.slice(track, since, until, name, {"generation": gen})
    draw_events(trace, track, others, flows)
    for cpu, ring in enumerate(cpus):
        track = trace.track(f"CPU {cpu}", 2 + cpu)
        for spell in spells(ring, turns, end):
            if spell.gen is None:
                trace.slice(track, spell.begin, spell.end, "idle", {})
            else:
                ended = "the trace's end" if spell.ended is None else spell.ended.name.lower()
                trace.slice(track, spell.begin, spell.end, named("generation", spell.gen), {"generation": spell.gen, "ended by": ended})
        draw_events(trace, track, ring, flows)
    Path(path).write_bytes(trace.serialize())


def draw_events(trace: "Trace", track: int, ring: list[Event], flows: dict[int, list[int]]) -> None:
    """Draw a ring's events, those that have no length."""
    for e in ring:
        if e.what in INSTANTS:
            notes: Notes = {} if e.what in MODES else {"generation": e.gen}
            trace.mark(track, e.t_ns, e.what.name.lower(), notes, flows=flows[e.gen] if e.what is TraceEvent.OPEN else ())


def draw_waits(trace: "Trace", found: list[Wait], opens: dict[int, int]) -> dict[int, list[int]]:
    """Draw the waits, on as many tracks as they need not to overlap; the flows that lead over each OPEN."""
    flows: dict[int, list[int]] = defaultdict(list)
    lanes: list[tuple[int, int]] = []                   # until when each is taken, and its track; the UI shows those of one name as one
    for wait in found:
        lane = heappop(lanes)[1] if lanes and lanes[0][0] <= wait.begin else trace.track("waits", 0)
        heappush(lanes, (wait.end, lane))
        if wait.how != "returned":
            trace.slice(lane, wait.begin, wait.end, named("grace period until", wait.cookie),
                        {"cookie": wait.cookie, "asked for": wait.asked, "is": wait.how})
        elif not wait.asked:
            trace.mark(lane, wait.end, "returned", {"cookie": wait.cookie})
        else:
            # An arrow leads from a slice's end to a slice's beginning: instants are where this one begins and ends.
            flow = next(trace.ids)
            if wait.begin <= opens.get(wait.cookie, -1) <= wait.end:
                flows[wait.cookie].append(flow)
            trace.begin(lane, wait.begin, named("wait for", wait.cookie), {"cookie": wait.cookie})
            trace.mark(lane, wait.begin, "asked", {}, flows=[flow])
            trace.mark(lane, wait.end, "returned", {}, flows_end=[flow])
            trace.end(lane, wait.end)
    return flows


def named(what: str, gen: int) -> str:
    """A slice's name."""
    return f"{what} {gen % 2**64}"


class Mark(NamedTuple):
    """An event of a track, to be a packet."""

    t_ns: int
    kind: int
    track: int
    name: str
    notes: Notes
    flows: Iterable[int]
    flows_end: Iterable[int]


class Trace:
    """A trace in the making: a track for the domain, the tracks below it, and marks, which may come in any order."""

    def __init__(self, begin: int) -> None:
        self.ids = itertools.count(random.getrandbits(62) + 1)              # of tracks and flows: traces can be concatenated
        self.marks: list[Mark] = []
        self.builder = TraceProtoBuilder()
        clocks = self.builder.add_packet().clock_snapshot
        clocks.primary_trace_clock = BUILTIN_CLOCK_MONOTONIC
        clocks.clocks.add(clock_id=BUILTIN_CLOCK_MONOTONIC, timestamp=begin)
        domain = self.builder.add_packet().track_descriptor
        self.domain = domain.uuid = next(self.ids)
        domain.process.pid = os.getpid()
        domain.process.process_name = "mmgen"
        domain.child_ordering = TrackDescriptor.EXPLICIT

    def track(self, name: str, rank: int) -> int:
        """A new track, shown in the order of the ranks."""
        track = self.builder.add_packet().track_descriptor
        track.uuid = next(self.ids)
        track.parent_uuid = self.domain
        track.name = name
        track.sibling_order_rank = rank
        return int(track.uuid)

    def slice(self, track: int, begin: int, end: int, name: str, notes: Notes) -> None:
        """A slice with nothing in it that is drawn on purpose."""
        self.begin(track, begin, name, notes)
        self.end(track, end)

    def begin(self, track: int, t_ns: int, name: str, notes: Notes) -> None:
        """A slice's beginning: what is marked on its track until its end is in it."""
        self.marks.append(Mark(t_ns, TrackEvent.TYPE_SLICE_BEGIN, track, name, notes, (), ()))

    def end(self, track: int, t_ns: int) -> None:
        """The end of the slice that began last."""
        self.marks.append(Mark(t_ns, TrackEvent.TYPE_SLICE_END, track, "", {}, (), ()))

    def mark(self, track: int, t_ns: int, name: str, notes: Notes, *, flows: Iterable[int] = (),
             flows_end: Iterable[int] = ()) -> None:
        """An instant, over which `flows` lead, and where `flows_end` end."""
        self.marks.append(Mark(t_ns, TrackEvent.TYPE_INSTANT, track, name, notes, flows, flows_end))

    def serialize(self) -> bytes:
        """The trace, in the order of time, and at one time in the order of the calls."""
        for mark in sorted(self.marks, key=by_time):
            packet = self.builder.add_packet()
            packet.timestamp = mark.t_ns
            packet.timestamp_clock_id = BUILTIN_CLOCK_MONOTONIC
            packet.trusted_packet_sequence_id = 1
            event = packet.track_event
            event.type = mark.kind
            event.track_uuid = mark.track
            if mark.name:
                event.name = mark.name
            event.flow_ids.extend(mark.flows)
            event.terminating_flow_ids.extend(mark.flows_end)
            for name, value in mark.notes.items():
                note = event.debug_annotations.add(name=name)
                if isinstance(value, str):
                    note.string_value = value
                else:
                    note.uint_value = value % 2**64
        return bytes(self.builder.serialize())
