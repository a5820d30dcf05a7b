"""A replay as a Perfetto trace, for ui.perfetto.dev: the recorded switches, and on the same tracks what the generations did there.

    generations     each from when it opened until the next did
    CPU n           what it ran, as recorded (a note says so where that was made up); marks where its tick counted in a generation, where it
                    opened one, and where it was interrupted
    mms             each that was torn down, from then until it was freed
"""
import itertools
import os
from heapq import heappop, heappush
from pathlib import Path

import numpy as np
from mmgen._arguments import shown
from mmgen.lab.replay.replay import Replay
from mmgen.lab.replay.steps import What
from mmgen.lab.simulate import Result
from mmgen.perfetto import Notes, Trace, named

KINDS = {What.USER: "task", What.KTHREAD: "kernel thread", What.IDLE: "idle"}


def write(path: str | os.PathLike[str], replay: Replay, result: Result) -> None:
    """Write what happened in the window of `result`'s timeline to the file `path`.

    `result` is one of `replay`'s, with a timeline. ValueError for one that has none; TypeError; OSError.
    """
    if not isinstance(replay, Replay) or not isinstance(result, Result):
        raise TypeError(f"replay={shown(replay)}, result={shown(result)}: a Replay, and one of its results")
    timeline = result.timeline
    if timeline is None:
        raise ValueError("the result has no timeline: with_timelines(replay, begin, end) makes it")
    trace = Trace(timeline.begin_ns)
    lives = [(mark.ns, mark.what, mark.number, replay.trace.cpu_ids[mark.cpu]) for mark in timeline.of("exited", "freed")]
    draw_mms(trace, lives, timeline.end_ns)
    track = trace.track("generations", 1)
    opened = timeline.of("opened")
    for mark, until in itertools.zip_longest(opened, (mark.ns for mark in opened[1:]), fillvalue=timeline.end_ns):
        if not isinstance(mark, int):
            notes: Notes = {"generation": mark.number, "opened by": f"CPU {replay.trace.cpu_ids[mark.cpu]}"}
            trace.slice(track, mark.ns, until, named("generation", mark.number), notes)
    by_cpu: dict[int, list[tuple[int, str, int]]] = {}
    for mark in timeline.of("paid", "opened", "interrupted"):
        by_cpu.setdefault(mark.cpu, []).append((mark.ns, mark.what, mark.number))
    for cpu in range(replay.trace.cpus):
        track = trace.track(f"CPU {replay.trace.cpu_ids[cpu]}", 2 + cpu)
        draw_tasks(trace, track, replay, cpu, timeline.begin_ns, timeline.end_ns)
        for ns, what, number in by_cpu.get(cpu, ()):
            name = {"paid": named("counted in", number), "opened": named("opened", number), "interrupted": "interrupted"}[what]
            trace.mark(track, ns, name, {"generation": number} if number else {})
    Path(path).write_bytes(trace.serialize())


def draw_tasks(trace: Trace, track: int, replay: Replay, cpu: int, begin: int, end: int) -> None:
    """Draw what `cpu` ran from `begin` to `end`."""
    steps = replay.steps
    since, which = steps.switches_of(cpu)
    first, last = int(np.searchsorted(since, begin, side="right")) - 1, int(np.searchsorted(since, end, side="left"))
    edges = [*np.clip(since[first:last], begin, end).tolist(), end]
    for (ns, until), at in zip(itertools.pairwise(edges), which[first:last].tolist(), strict=True):
        step = steps.first[cpu] if at < 0 else steps.steps[at]
        notes: Notes = {"is": KINDS[What(int(step["what"]))], "tid": int(step["tid"])}
        if step["mm"]:
            notes["mm"] = int(step["mm"])
        if step["made_up"]:
            notes["made up"] = "the recording lacks this switch"
        trace.slice(track, ns, until, replay.trace.task_name(int(step["tid"])), notes)


def draw_mms(trace: Trace, lives: list[tuple[int, str, int, int]], end: int) -> None:
    """Draw what waits to be freed, on as many tracks as need be for nothing to overlap."""
    since: dict[int, tuple[int, int]] = {}
    waits: list[tuple[int, int, int, int, bool]] = []
    for ns, what, mm, cpu in lives:
        if what == "exited":
            since[mm] = ns, cpu
        elif mm in since:
            begun, on = since.pop(mm)
            waits.append((begun, max(ns, begun), mm, on, True))
    waits += [(begun, end, mm, on, False) for mm, (begun, on) in since.items()]
    lanes: list[tuple[int, int]] = []                   # until when each is taken, and its track
    for begun, until, mm, on, freed in sorted(waits):
        lane = heappop(lanes)[1] if lanes and lanes[0][0] <= begun else trace.track("mms", 0)
        heappush(lanes, (until, lane))
        trace.slice(lane, begun, until, f"mm {mm}", {"torn down by": f"CPU {on}", "is": "freed at its end" if freed else "not freed yet"})
