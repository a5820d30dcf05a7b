"""The extension modules; everything else about the package is in pyproject.toml.

MMGEN_SANITIZE=thread, =address or =undefined builds them under that sanitizer, MMGEN_COVERAGE=1 for gcov and Cython's line trace.
"""
import os

from Cython.Build import cythonize
from setuptools import Extension, setup

flags = ["-O2", "-g0", "-std=gnu11"]
links = []
directives = {}
if sanitizer := os.environ.get("MMGEN_SANITIZE"):
    # -fno-wrapv: Python's own flags have signed overflow wrap, and =undefined would not mind it.
    flags = ["-O1", "-g", "-std=gnu11", f"-fsanitize={sanitizer}", "-fno-omit-frame-pointer", "-fno-wrapv"]
    links = [f"-fsanitize={sanitizer}"]
if os.environ.get("MMGEN_COVERAGE"):
    flags = ["-O0", "-g", "-std=gnu11", "--coverage", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"]
    links = ["--coverage"]
    directives = {"linetrace": True}

setup(
    ext_modules=cythonize(
        [
            Extension(f"mmgen.{name}", [f"mmgen/{name}.pyx"], depends=["mmgen/_sleep.h"], include_dirs=["mmgen"],
                      extra_compile_args=flags, extra_link_args=links)
            for name in ("_trace", "_core", "_lifetime", "_callbacks", "_capi", "_latency", "_cookie", "_domain", "_cpu", "_machine",
                         "_arrivals")
        ],
        compiler_directives=directives,
    ),
    options={"build_ext": {"parallel": os.cpu_count()}},
)
