"""The second recorder: perf record, told when to begin and when to end, and perf script."""
import contextlib
import ctypes
import io
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from mmgen.lab.record import leftovers, mounts, ticks
from mmgen.lab.record.rights import UnusableError, as_root, paranoid
from mmgen.lab.record.ringbuffer import EVENTS, NEEDED, TICK
from mmgen.lab.record.signals import Signals
from mmgen.lab.traces import Task

PR_SET_PDEATHSIG = 1
READY_S = 30                            # for perf to be ready, or to be done
HURRY_S = 0.02
FIELDS = "comm,pid,tid,cpu,time,event,trace"
ADDRESS = re.compile("function=0x[0-9a-f]+")
LOST = re.compile(r"PERF_RECORD_LOST(?:_SAMPLES)?\b.*?lost (\d+)")


class Perf:
    """A recording through perf: as Tracefs. lost: known when text() was read."""

    name = "perf"

    def __init__(self, folder: Path, buffer_mb: float, signals: Signals) -> None:
        self.folder = folder
        self.signals = signals
        pages = max(1, round(buffer_mb * 1024 * 1024 / os.sysconf("SC_PAGESIZE")))
        self.pages = 1 << (pages - 1).bit_length()      # perf takes powers of 2 only
        self.lost = 0
        self.notes: list[str] = []
        self.tgids: dict[int, int] = {}
        self.cpu_s = 0.0                                # of perf record, user and system: since stop()
        self._ticking: str | None = None                # the function of the timers that are recorded, if all have one
        self._data = folder / "perf.data"
        self._said = folder / "perf.stderr"
        self.removed: list[str] = []
        self._perf: subprocess.Popen[bytes] | None = None
        self._tell = self._hear = -1

    @property
    def written(self) -> int:
        """Bytes so far."""
        try:
            return self._data.stat().st_size
        except OSError:
            return 0

    def prepare(self) -> None:
        """Start perf, which is to wait. Raises UnusableError."""
        program = shutil.which("perf")
        if program is None:
            raise UnusableError("there is no perf in PATH", f"install perf (Debian: sudo apt-get install linux-perf; Ubuntu: "
                                                       f"linux-tools-{os.uname().release})")
        self._program = program
        if (root := mounts.mounted()) is not None:
            self.removed = leftovers.clean_instances(root / "instances")
        elif os.geteuid() != 0:
            raise UnusableError("perf finds its events in tracefs, which is not mounted",
                                f"sudo mount -t tracefs -o mode=750,gid={os.getgid()} nodev {mounts.USUAL[0]}")
        filters = ticks.filters(ticks.addresses())
        names = list(EVENTS)
        while True:
            said = self._launch(names, filters[0][0] if filters else None)
            if said is None:
                self._ticking = filters[0][1] if filters else None
                return
            absent = re.search(r"event syntax error: '([a-z_:]+)'", said)
            if absent and absent[1] in names and absent[1] != NEEDED and not re.search(r"[Pp]ermission|[Aa]ccess", said):
                names.remove(absent[1])
                self.notes.append(f"this kernel has no event {absent[1]}")
            elif "filter" in said and filters:
                del filters[0]
                if not filters:
                    self.notes.append("perf takes no filter for the tick's timer: every timer is recorded")
            else:
                raise self._unusable(said)

    def _launch(self, names: Sequence[str], tick: str | None) -> str | None:
        """Start perf with these events, and this filter for the tick; what it said, if it ended."""
        events: list[str] = []
        for name in names:
            events += ["-e", name]
            if name == TICK and tick is not None:
                events += ["--filter", tick]
        there, tell = os.pipe()
        hear, back = os.pipe()
        self._tell, self._hear = tell, hear
        # -B -N: no copies of programs in ~/.debug. -D -1: waits until it is told to begin.
        arguments = [self._program, "record", "-a", "-k", "mono", "-B", "-N", "-m", str(self.pages), "-o", str(self._data), "-D", "-1",
                     f"--control=fd:{there},{back}", *events]
        try:
            with open(self._said, "wb") as said:
                self._perf = child(arguments, said, said, (there, back))
        finally:
            os.close(there)
            os.close(back)
        try:
            os.write(tell, b"ping\n")                   # it answers when it has opened all events and listens
            self._answer()
        except (UnusableError, OSError):
            self._end()
            return self._said.read_text(errors="replace")
        return None

    def _answer(self) -> None:
        """Wait for perf's ack. UnusableError if it ends, or does not answer in time."""
        waited = 0.0
        while self._hear not in self.signals.wait(0.1, [self._hear]):
            self.signals.check()
            waited += 0.1
            if waited > READY_S:
                raise UnusableError(f"perf does not answer within {READY_S} s")
        if not os.read(self._hear, 64):
            raise UnusableError("perf has ended")

    def _unusable(self, said: str) -> UnusableError:
        lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("'trace'", " Usage", "Run 'perf"))]
        errors = [line for line in lines if line.startswith(("Error", "event syntax", "Failed", "failed", "No permission", "Access"))
                  or "ermission" in line] or lines
        if os.geteuid() != 0:
            level, root = paranoid(), mounts.mounted() or mounts.USUAL[0]
            whys, remedies = [], []
            if level is not None and level > -1:
                whys.append(f"perf_event_paranoid={level} lets only root record all CPUs")
                remedies.append("sudo sysctl kernel.perf_event_paranoid=-1")
            if not os.access(root / "events" / NEEDED.replace(":", "/") / "id", os.R_OK):
                whys.append(f"the events in {root} may not be read")
                where = f"-o remount,mode=750,gid={os.getgid()} {root}" if root == mounts.USUAL[0] else (
                    f"-t tracefs -o mode=750,gid={os.getgid()} nodev {mounts.USUAL[0]}")      # the other is within a closed folder
                remedies.append(f"sudo mount {where}")
            if whys:
                return UnusableError(", and ".join(whys), " && ".join(remedies))
        why = " ".join(errors[:3]) or "it ended and said nothing"
        return UnusableError(f"perf record: {why}", as_root() if os.geteuid() != 0 else "")

    def start(self) -> None:
        """From here on it records. OSError."""
        try:
            os.write(self._tell, b"enable\n")
            self._answer()
        except UnusableError as error:
            raise OSError(f"{error}: {self._said.read_text(errors='replace').strip()}") from error

    def files(self) -> list[int]:
        """Can be read when perf has ended: too early."""
        return [self._hear]

    def drain(self) -> bool:
        """Perf does that. OSError if it has ended."""
        if self._perf is not None and self._perf.poll() is not None:
            raise OSError(f"perf record has ended: {self._said.read_text(errors='replace').strip()[-500:]}")
        return False

    def so_far(self) -> str:
        """How much, in a few words."""
        return f"{self.written / 1e6:,.1f} MB"

    def stop(self) -> None:
        """Record no more; perf writes down the rest. OSError; KeyboardInterrupt on a signal."""
        assert self._perf is not None
        with contextlib.suppress(OSError):
            os.write(self._tell, b"disable\n")
        self._perf.send_signal(signal.SIGINT)
        waited = 0.0
        while True:
            pid, status, used = os.wait4(self._perf.pid, os.WNOHANG)
            if pid:
                break
            self.signals.wait(0.02)
            self.signals.check()
            waited += 0.02
            if waited > READY_S and not self.written:
                raise OSError(f"perf record does not end within {READY_S} s")
        self._perf.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = used.ru_utime + used.ru_stime
        if self._perf.returncode not in (0, -signal.SIGINT) or not self.written:
            raise OSError(f"perf record: {self._said.read_text(errors='replace').strip()[-500:]}")

    def _end(self) -> None:
        if self._perf is not None and self._perf.poll() is None:
            self._perf.kill()                           # the kernel has to undo what perf set, and takes a third of a second for it:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._perf.wait(HURRY_S if self.signals.number else None)      # nobody waits for that after a signal
        self._perf = None
        for pipe in {self._tell, self._hear} - {-1}:
            os.close(pipe)
        self._tell = self._hear = -1

    def undo(self) -> None:
        """End perf. Twice does no harm."""
        self._end()

    def text(self, tasks: Mapping[int, Task]) -> Iterator[str]:
        """What perf script prints, line by line. OSError."""
        del tasks
        with open(self._said, "w+b") as said:
            arguments = [self._program, "script", "-i", str(self._data), "--ns", "-F", FIELDS, "--show-lost-events"]
            script = child(arguments, subprocess.PIPE, said)
            assert script.stdout is not None
            out = io.TextIOWrapper(script.stdout, errors="replace")
            try:
                for line in out:
                    if "PERF_RECORD_LOST" in line and (found := LOST.search(line)):
                        self.lost += int(found[1])
                    elif self._ticking and "function=0x" in line and f" {TICK}:" in line:       # a user who may not see addresses
                        line = ADDRESS.sub(f"function={self._ticking}", line, count=1)  # noqa: PLW2901
                    yield line
                if script.wait() != 0:
                    said.seek(0)
                    raise OSError(f"perf script: {said.read().decode(errors='replace').strip()[-500:]}")
            finally:
                script.kill()
                script.wait()
                out.close()


def child(arguments: Sequence[str], out: int | IO[bytes], said: IO[bytes], pass_on: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start perf in a session of its own, so that Ctrl-C is ours to pass on; it ends when this thread does, however that may be."""
    # Where tracefs is not mounted perf would mount it, to record and to read, and leave it so.
    own = mounts.Own() if mounts.mounted() is None and os.geteuid() == 0 else None
    prctl = ctypes.CDLL(None).prctl

    def first() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if own is not None:
            own()

    return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=said, pass_fds=pass_on, start_new_session=True,
                            env=os.environ | {"LC_ALL": "C"}, preexec_fn=first)     # noqa: PLW1509 - there is one thread
