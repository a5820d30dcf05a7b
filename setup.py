"""The extension modules; everything else about the package is in pyproject.toml.

MMGEN_SANITIZE=thread, =address or =undefined builds them under that sanitizer, =address,undefined under both; MMGEN_COVERAGE=1 for gcov
and Cython's line trace.
"""
import os
import runpy
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

kind = "plain"
flags = ["-O2", "-g0", "-std=gnu11"]
links = []
directives = {}
if sanitizer := os.environ.get("MMGEN_SANITIZE"):
    # -fno-wrapv: Python's own flags have signed overflow wrap, and =undefined would not mind it. -g1: names and lines, for the reports.
    kind = sanitizer
    flags = ["-O1", "-g1", "-std=gnu11", f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer", "-fno-wrapv"]
    # =undefined: a runtime of the module's own, whose names are nobody else's. =address's would take them, and its reports would be lost.
    links = [f"-fsanitize={sanitizer}", "-static-libubsan", "-Wl,--exclude-libs=ALL"]
if os.environ.get("MMGEN_COVERAGE"):
    kind = "coverage"
    flags = ["-O0", "-g", "-std=gnu11", "--coverage", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"]
    links = ["--coverage"]
    directives = {"linetrace": True}

# The checker compiles the protocol's own source a second time, hooked.
runpy.run_path("mmgen/check/hooked.py")["write"](Path("mmgen"))

PACKAGE = ("_trace", "_core", "_lifetime", "_callbacks", "_latency", "_cookie", "_domain", "_cpu", "_batch", "_snapshot", "_capi",
           "_machine", "_arrivals")
CHECK = ("_steps", "_core", "_lifetime", "_callbacks", "_sketch", "_world", "_search")
TORTURE = ("_pipe", "_reader", "_updater")
LAB = ("_wheel", "_timeline", "_refcount", "_shootdown", "_generation", "_masks", "_account", "_events", "_virtual", "_mms", "_interrupts",
       "_real", "_calibrate")
REPLAY = ("_steps", "_recorded", "_waits")
TRACES = ("_columns", "_threads", "_kernel", "_whose", "_tsv")

setup(
    ext_modules=cythonize(
        [
            Extension(f"mmgen.{name}".replace("/", "."), [f"mmgen/{name}.pyx"], include_dirs=["mmgen", "mmgen/check"],
                      depends=["setup.py", "mmgen/_sleep.h", "mmgen/check/_coroutine.h"], extra_compile_args=flags, extra_link_args=links)
            for name in (*PACKAGE, *(f"check/{name}" for name in CHECK), *(f"torture/{name}" for name in TORTURE),
                         *(f"lab/{name}" for name in LAB), *(f"lab/replay/{name}" for name in REPLAY),
                         *(f"lab/traces/{name}" for name in TRACES))
        ],
        compiler_directives=directives,
    ),
    # A directory for each kind: what was built with other flags is never taken for what is wanted.
    options={"build": {"build_base": f"build/{kind}"}, "build_ext": {"parallel": os.cpu_count()}},
)
