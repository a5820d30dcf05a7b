"""Runs the model: `python spec/run.py [--long] [--broken [NAME ...]] [--stamp]`. Needs spin and a C compiler.

Without an option: the short configurations, each to closure. --long: those that take 20 minutes each as well (16 GB). --broken: the broken
variants, each of which must be refuted. --stamp: writes into the model the hashes of the functions it was written from - after
reading both again, not instead. Exit status: 0, all is as it should be; 1, something is not; 2, it could not be run.
"""
import argparse
import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SPEC = Path(__file__).parent
MODEL = SPEC / "mmgen.pml"
STAMP = re.compile(r"/\* models (\S+):(\w+) sha256:([0-9a-f]{12}) \*/")


@dataclasses.dataclass(frozen=True)
class Config:
    defines: tuple[str, ...]
    depth: int = 3_000_000          # pan -m: more than the deepest path of the short ones
    hash_bits: int = 22             # pan -w
    shortest: bool = False          # breadth first: the first error has the shortest trail

    @property
    def name(self) -> str:
        return " ".join(self.defines)


@dataclasses.dataclass(frozen=True)
class Result:
    config: Config
    states: int
    seconds: float
    megabytes: float
    depth: int                      # of the deepest path; of the error, if it was searched breadth first
    error: str                      # "" for none
    closed: bool                    # everything was searched

    def __str__(self) -> str:
        verdict = f"{self.error}, after {self.depth} steps" if self.error else "closed" if self.closed else "PARTIAL"
        return f"{self.config.name:<62} {self.states:>12,} states {self.seconds:7.1f} s {self.megabytes:6.0f} MB  {verdict}"


def config(ncpus: int, nwaiters: int, *more: str, depth: int = 3_000_000, hash_bits: int = 22) -> Config:
    return Config((f"NCPUS={ncpus}", f"NWAITERS={nwaiters}", *more), depth, hash_bits)


# DRAIN searches all that is searched without it, and more; ENDS cannot look for invalid end states.
SHORT = [config(ncpus, nwaiters, *mode, *drain)
         for ncpus, nwaiters in ((1, 2), (2, 1)) for mode in ((), ("CONTINUOUS",)) for drain in (("DRAIN",), ("DRAIN", "ENDS"))]
LONG = [config(2, 2, "DRAIN", depth=80_000_000, hash_bits=27),
        config(2, 2, "CONTINUOUS", "DRAIN", depth=80_000_000, hash_bits=27)]

# The smallest configuration that refutes each. NO_MONITOR: by the harm that is done, not by a ghost that does not add up.
BROKEN = {name: Config((f"NCPUS={ncpus}", "NWAITERS=1", *mode, "NO_MONITOR", name), shortest="ENDS" not in mode) for name, ncpus, mode in [
    ("ONE_SHORT_ON_DEMAND", 1, ()),
    ("ONE_SHORT_JOINING", 2, ("CONTINUOUS",)),
    ("NO_IDLE_SCAN", 1, ("DRAIN",)),
    ("NO_LOOK_AFTER_IDLE", 1, ("DRAIN",)),
    ("NO_WAKE", 1, ("DRAIN",)),
    ("NO_PARITY_WAIT", 2, ()),
    ("PARITY_FROM_GENERATION", 1, ("DRAIN",)),
    ("LAST_CPU_UNLOCKED", 2, ()),
    ("ONLINE_READ_EARLY", 1, ("DRAIN",)),
    ("TWO_PROXIES", 1, ()),
    ("NO_CLAIM", 1, ()),
    ("NO_RECHECK", 2, ()),
    ("CREDITS_FOREVER", 1, ("CONTINUOUS", "DRAIN", "ENDS")),
]}


def source_hash(package: Path, file: str, function: str) -> str:
    """Of a function's text, without comments and blank lines: from its `cdef` to the next line that is not indented."""
    lines = (package / file).read_text().splitlines()
    starts = [n for n, line in enumerate(lines) if re.match(rf"cdef [^(]*\b{function}\(.*:$", line.split("#")[0].rstrip())]
    if len(starts) != 1:
        raise LookupError(f"{file} defines {function} {len(starts)} times")
    body = [lines[starts[0]]]
    for line in lines[starts[0] + 1:]:
        if line[:1] not in ("", " "):
            break
        body.append(line)
    code = [bare for line in body if (bare := line.split("#")[0].rstrip())]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:12]


def stale_stamps(package: Path, model: Path = MODEL) -> list[str]:
    """What the model says it was written from, and is no more: file:function."""
    return [f"{file}:{function}" for file, function, stamp in STAMP.findall(model.read_text())
            if source_hash(package, file, function) != stamp]


def restamp(package: Path, model: Path = MODEL) -> None:
    model.write_text(STAMP.sub(lambda m: f"/* models {m[1]}:{m[2]} sha256:{source_hash(package, m[1], m[2])} */", model.read_text()))


def compiler() -> str | None:
    return shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")


def missing() -> str | None:
    if not shutil.which("spin"):
        return "spin is not installed (Debian: apt-get install spin; or https://spinroot.com)"
    return None if compiler() else "there is no C compiler (cc, gcc, clang, or what CC names)"


def search(what: Config, model: Path = MODEL) -> Result:
    ends = "ENDS" in what.defines
    flags = ["-DCOLLAPSE", "-DNOFAIR", *(["-DNOSTUTTER"] if ends else ["-DSAFETY"]), *(["-DBFS"] if what.shortest else [])]
    with tempfile.TemporaryDirectory() as build:
        def run(*command: str) -> str:
            done = subprocess.run(command, cwd=build, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")
            return done.stdout

        run("spin", *(f"-D{define}" for define in what.defines), "-a", str(model.resolve()))
        run(compiler() or "cc", "-O2", "-w", *flags, "-o", "pan", "pan.c")
        out = run("./pan", f"-m{what.depth}", f"-w{what.hash_bits}", *(["-a"] if ends else []))

    def number(pattern: str) -> float:
        found = re.search(pattern, out)
        if not found:
            raise RuntimeError(f"pan said something else:\n{out}")
        return float(found[1])

    error = re.search(r"^pan:1: (.*?)(?: \(at depth (\d+)\))?$", out, re.M)
    partial = re.search(r"search depth too small|out of memory|memory limit|Search not completed", out)
    return Result(what, int(number(r"([\d.e+]+) states, stored")), number(r"elapsed time ([\d.e+-]+)"),
                  number(r"([\d.]+)\s+total actual memory"), int(error[2]) if error and error[2] else int(number(r"depth reached (\d+)")),
                  error[1] if error else "", not error and not partial and number(r"errors: (\d+)") == 0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="also what takes minutes")
    parser.add_argument("--broken", nargs="*", metavar="NAME", choices=sorted(BROKEN), help="the broken variants: all, or these")
    parser.add_argument("--stamp", action="store_true", help="rewrite the stamps")
    args = parser.parse_args(argv)
    if args.stamp:
        restamp(SPEC.parent / "mmgen")
        return 0
    if problem := missing():
        print(problem, file=sys.stderr)
        return 2
    broken = args.broken is not None
    todo = [BROKEN[name] for name in args.broken or BROKEN] if broken else SHORT + LONG * args.long
    bad = 0
    for what in todo:
        try:
            result = search(what)
        except (RuntimeError, OSError) as problem:
            print(problem, file=sys.stderr)
            return 2
        print(result, flush=True)
        bad += not result.error if broken else not result.closed
    if bad:
        print(f"{bad} of {len(todo)}: {'not refuted' if broken else 'refuted, or not searched to the end'}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
