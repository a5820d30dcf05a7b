"""The loops that are measured, compiled: mmgen's and its peers', with one compiler and the same flags."""
import ctypes
import importlib.util
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import mmgen

HERE = Path(__file__).parent
# A short loop that crosses a line of the instruction cache takes twice as long: all of them begin one.
FLAGS = ["-O2", "-falign-functions=64", "-falign-loops=64", "-std=gnu11", "-fwrapv", "-DNDEBUG", "-fPIC", "-shared", "-pthread"]
# Thread-local words as in a program that links the library: else each use in a shared object is a call.
PEER_FLAGS = [*FLAGS, "-ftls-model=initial-exec", "-Wall", "-Wextra", "-Werror"]
# What each peer needs, as the linker and as Debian call it.
PEERS = {"bare": ([], ""), "kernel": ([], ""), "qsbr": (["-lurcu-qsbr"], "liburcu-dev"), "memb": (["-lurcu-memb"], "liburcu-dev"),
         "mb": (["-lurcu-mb"], "liburcu-dev"), "ck": (["-lck"], "libck-dev")}
OURS = ("batches", "meter", "wakes", "shape")


class Loop(ctypes.Structure):
    """struct loop."""

    _fields_ = [("run", ctypes.c_void_p), ("enter", ctypes.c_void_p), ("leave", ctypes.c_void_p), ("arg", ctypes.c_void_p)]

    @property
    def address(self):
        """For the meter."""
        return ctypes.addressof(self)


class MissingError(Exception):
    """A peer that this machine does not have: which package would bring it, and what the compiler said."""


def compiler():
    """The C compiler that Python's own build names."""
    return shlex.split(sysconfig.get_config_var("CC") or "cc")[0]


def cc(source, built, *flags):
    """Compile. MissingError, with what the compiler said."""
    command = [compiler(), str(source), "-o", str(built), f"-I{HERE}", f"-I{Path(mmgen.__file__).parent / 'include'}", *flags]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MissingError(f"{compiler()} is not installed") from None
    if result.returncode:
        raise MissingError(result.stderr)
    return built


def extension(name, directory):
    """The Cython module `name`, against the installed package, as any other user's would be."""
    source = directory / f"{name}.c"
    subprocess.run([sys.executable, "-m", "cython", "-o", source, HERE / f"{name}.pyx"], check=True)
    built = cc(source, directory / f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}", *FLAGS, f"-I{sysconfig.get_path('include')}",
               f"-I{Path(mmgen.__file__).parent}")
    spec = importlib.util.spec_from_file_location(name, built)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peer(name, directory):
    """The library of peers/`name`.c, loaded. MissingError."""
    libraries, package = PEERS[name]
    try:
        return ctypes.CDLL(str(cc(HERE / "peers" / f"{name}.c", directory / f"{name}.so", *PEER_FLAGS, *libraries)))
    except (MissingError, OSError) as error:
        if not package:
            raise
        raise MissingError(f"{name} needs Debian's {package}: {str(error).strip().splitlines()[0]}") from None


def table(directory):
    """table.c, loaded."""
    return ctypes.CDLL(str(cc(HERE / "table.c", directory / "table.so", *PEER_FLAGS)))


def loop(library, name):
    """A loop that C defines."""
    return Loop.in_dll(library, name)


def grace_periods(library):
    """How many have passed in a peer's library."""
    library.grace_periods.restype = ctypes.c_ulong
    return library.grace_periods()
