"""`mmgen record`: which recorder, what becomes of its text, and the summary."""
import argparse
import contextlib
import gzip
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, cast

from mmgen.lab import traces
from mmgen.lab.record import leftovers, tasks, ticks
from mmgen.lab.record.outputs import Output
from mmgen.lab.record.perf import Perf
from mmgen.lab.record.rights import UnusableError
from mmgen.lab.record.session import Session, record
from mmgen.lab.record.signals import Signals
from mmgen.lab.record.summary import summary
from mmgen.lab.record.tracefs import Tracefs
from mmgen.progress import Show, progress
from mmgen.workload import interval

LONGEST_S = 7 * 86_400
MOST_MB = 16_384
CHECK_EVERY = 4096                      # lines of text, between two looks at progress


def run(o: argparse.Namespace) -> int:
    """Record as `o` says; the exit status, as docs/record.md tells it. Raises ValueError, OSError."""
    if sys.platform != "linux":
        raise ValueError(f"this records Linux's own tracing: there is none on {sys.platform}")
    if o.seconds is not None:
        interval("--seconds ", o.seconds, 0.001, LONGEST_S)
    interval("--buffer-mb ", o.buffer_mb, 0.01, MOST_MB)
    outputs = [Output(path, option) for path, option in ((o.output, "-o"), (o.raw, "--raw"), (o.tasks, "--tasks")) if path is not None]
    if len({output.path for output in outputs}) < len(outputs):
        raise ValueError("two of -o, --raw and --tasks are the same file")
    argv = list(o.argv)
    if argv and (status := cannot_run(argv[0])):
        return status
    for output in outputs:
        output.check()
    with Signals() as signals:
        session = Session(argv)
        try:
            clean(outputs)
            with leftovers.folder() as folder:
                return recorded(o, session, folder, signals, outputs)
        except KeyboardInterrupt:
            return 128 + (signals.number or session.signal or signal.SIGINT)
        except OSError as error:
            signals.quiet()
            if session.command is not None and session.command.poll() is None and not session.over:
                say(f"no longer recording ({error}); waiting for {argv[0]} to end")
                session.wait(signals)
            raise
        finally:
            signals.quiet()
            for output in outputs:
                output.undo()


def say(text: str) -> None:
    """A line of standard error."""
    if sys.stderr is not None:
        print(f"mmgen record: {text}", file=sys.stderr, flush=True)


def cannot_run(program: str) -> int:
    """Why the command cannot be run, as the status that a shell has for that, and said; 0 if it can."""
    if shutil.which(program) is not None:
        return 0
    there = os.path.sep in program and os.path.exists(program)
    say(f"{program!r} {'cannot be run' if there else 'is not found'}")
    return 126 if there else 127


def clean(outputs: Sequence[Output]) -> None:
    """Remove what recordings that were killed have left behind, and say so."""
    said = leftovers.clean_folders(Path(tempfile.gettempdir()))
    for parent in sorted({output.path.parent for output in outputs}):
        said += leftovers.clean_partial(parent)
    for phrase in said:
        say(f"removed {phrase}, left behind by a recording that was killed")


def recorded(o: argparse.Namespace, session: Session, folder: Path, signals: Signals, outputs: Sequence[Output]) -> int:
    """Record, undo what was set in the kernel, and turn it into files."""
    recorder = prepared(o, folder, signals)
    if recorder is None:
        return 2
    try:
        with lines(not session.argv) as line:
            record(recorder, session, o.seconds, signals, line)
    finally:
        recorder.undo()
    session.over = True
    with signals.raising(), progress("{:,} events".format) as show:
        trace = written(recorder, session, folder, outputs, show)
    still = session.end_command(signals)
    print("\n".join(summary(recorder, session, trace, o.output)), file=sys.stderr)
    if still:
        say(still)
    if session.signal:
        return 128 + session.signal
    return session.status


def prepared(o: argparse.Namespace, folder: Path, signals: Signals) -> Tracefs | Perf | None:
    """The first recorder that works; None if none does, which was then said, with the reasons and what to do."""
    problems = []
    for name in ("tracefs", "perf"):
        if o.with_ not in (None, name):
            continue
        signals.check()
        recorder = (Tracefs if name == "tracefs" else Perf)(folder, o.buffer_mb, signals)
        try:
            recorder.prepare()
        except UnusableError as error:
            recorder.undo()
            problems.append(f"  {name}: {error}")
            continue
        except BaseException:
            recorder.undo()
            raise
        for problem in problems:
            say(f"not through {problem.strip()}")
        for phrase in recorder.removed:
            say(f"removed {phrase}, left behind by a recording that was killed")
        return recorder
    say("cannot record here")
    print("\n".join(problems), file=sys.stderr)
    return None


@contextlib.contextmanager
def lines(wanted: bool) -> Iterator[Callable[[str], None]]:
    """What shows a line a second on a terminal, in place of the one before. Not beside a command, which may write there.

    No bar that is drawn ten times a second: it would be recorded.
    """
    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        yield lambda text: None
        return
    out = sys.stderr
    try:
        yield lambda text: print(f"\rrecording: {text}\x1b[K", end="", file=out, flush=True)
    finally:
        print("\r\x1b[K", end="", file=out, flush=True)


def written(recorder: Tracefs | Perf, session: Session, folder: Path, outputs: Sequence[Output], show: Show) -> traces.Trace:
    """Write the recorder's text, the tasks and the trace; the trace. ValueError, OSError."""
    made = {output.option: folder / f"{output.option.strip('-')}-{output.path.name}" for output in outputs}
    raw = made.get("--raw", folder / "recorded.perf-script.txt")
    with opened(raw) as out:
        for nr, line in enumerate(recorder.text(session.tasks)):
            out.write(line)
            if nr % CHECK_EVERY == 0:
                show(0.0, nr)
    if "--tasks" in made:
        tasks.write(session.tasks, made["--tasks"])
    said = ticks.configured()
    trace = traces.read(raw, tasks=session.tasks, hz=int(said["HZ"]) if "HZ" in said else None, show=show)
    lost = max(recorder.lost, trace.lost)               # a full page has no room to say how many were lost before it
    trace = trace.replace(name=name_of(session.argv), lost=lost, notes=(*recorder.notes, *remarks(trace, lost)),
                          extra=(f"kernel={os.uname().release}", *[key for key in said if key != "HZ"], f"recorder={recorder.name}"))
    traces.write(trace, made["-o"], names=True, show=show)
    for output in outputs:
        output.publish(made[output.option])
    return trace


def remarks(trace: traces.Trace, lost: int) -> Iterator[str]:
    """What the reader noted, but for what is known better here."""
    # Every kind was asked for: what there is none of did not happen, or the recorder has a note on it.
    yield from (note for note in trace.notes if not note.startswith(("there is no ", "the recorder has lost")))
    if lost:
        yield f"{lost:,} events were lost: more of --buffer-mb may keep them"


def name_of(argv: Sequence[str]) -> str:
    """What the recording is called: as its command, in what a name may have."""
    return re.sub(r"[^\w.+-]", "_", Path(argv[0]).name) if argv else "recorded"


def opened(path: Path) -> TextIO:
    """A text file to be written, gzipped if its name ends with .gz. OSError."""
    return cast(TextIO, gzip.open(path, "wt")) if path.name.endswith(".gz") else open(path, "w")
