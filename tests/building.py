"""Builds against the installed package, as any other user's are."""
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import mmgen
import pytest


def run(*command, cwd=None, **options):
    """Run a command, which must succeed; its output."""
    options = {"capture_output": True, "text": True, "check": False, "timeout": 600} | options
    result = subprocess.run([*map(str, command)], cwd=cwd, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def load(path, name):
    """The extension module at `path`."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def need(compiler):
    """Skip where `compiler` is not installed."""
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")


def cython(directory, name, source, language="c", include_path=()):
    """The module `name` of Cython `source`, built in `directory`."""
    if language == "c++":
        need((sysconfig.get_config_var("CXX") or "c++").split()[0])
    (directory / f"{name}.pyx").write_text(source)
    (directory / "setup.py").write_text(
        "from Cython.Build import cythonize\nfrom setuptools import Extension, setup\n"
        f"setup(ext_modules=cythonize([Extension({name!r}, [{name + '.pyx'!r}], language={language!r}, include_dirs=[{INCLUDE!r}])],\n"
        f"                            include_path={[str(path) for path in include_path]!r}))\n")
    run(sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", cwd=directory)
    return load(next(directory.glob(f"{name}.*.so")), name)


def c(directory, name, source, compiler="gcc", standard="c11", include=None):
    """The module `name` of C or C++ `source`, built in `directory`, without a warning."""
    need(compiler)
    path = directory / f"{name}.{'cpp' if '++' in standard else 'c'}"
    path.write_text(source)
    flags = ["-shared", "-fPIC", "-O2", f"-std={standard}", "-Wall", "-Wextra", "-Werror", f"-I{include or INCLUDE}"]
    run(compiler, *flags, "-isystem", sysconfig.get_path("include"), path, "-o", directory / f"{name}.so")
    return load(directory / f"{name}.so", name)


INCLUDE = mmgen.get_include()
HEADER = Path(INCLUDE) / "mmgen.h"
