"""What a recording has, and what it took, in a few lines."""
import shlex
from collections.abc import Iterator

from mmgen.lab.record.session import Recorder, Session
from mmgen.lab.traces import Trace


def summary(recorder: Recorder, session: Session, trace: Trace, path: str) -> Iterator[str]:
    """The lines."""
    counts = trace.counts
    nr = sum(counts.values())
    yield f"{session.seconds:.3g} s on {trace.cpus} CPUs at {trace.hz} Hz, through {recorder.name}"
    kinds = [f"{counts[kind]:,} {plural}" for kind, plural in (("switch", "switches"), ("tick", "ticks"), ("exec", "execs"),
                                                               ("exit", "exits"), ("teardown", "mms torn down"))]
    yield f"{nr:,} events: {', '.join(kinds)}"
    if session.switches:
        yield (f"{100 * counts['switch'] / session.switches:.1f} % of the {session.switches:,} switches that the kernel counted meanwhile; "
               f"{trace.lost:,} events lost")
    per_event = f", {session.cpu_s / nr * 1e6:.2g} us an event" if nr else ""
    seconds = max(session.seconds, 1e-9)
    yield (f"the recorder took {session.cpu_s:.3g} s of processor time ({100 * session.cpu_s / seconds:.2g} % of one CPU{per_event}) and "
           f"wrote {recorder.written / 1e6:,.3g} MB; {nr / seconds:,.0f} events a second. "
           "What the kernel itself spends on an event is not in this: docs/record.md")
    yield from (f"note: {note}" for note in trace.notes)
    yield f"{path} is written; next: mmgen replay {shlex.quote(path)}"
