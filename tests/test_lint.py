"""The source itself: style, types, and that stubs and extensions agree."""
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COPIES = {"_core", "_control", "_lifetime", "_callbacks"}           # in check/, where they are made from those of the package
CYTHON = [str(path) for folder in ("mmgen", "benchmarks") for path in sorted((ROOT / folder).rglob("*.p[yx][xd]"))
          if not (path.parent.name == "check" and path.stem in COPIES)]
# What Cython adds to every module; a ctypes structure's fields, which no stub knows.
ALLOWED = r".*\.__test__|.*\.__pyx_capi__|mmgen\.capi\.Api\..*"
pytestmark = pytest.mark.unsanitized("reads the source")


@pytest.mark.parametrize(("module", "command"), [
    pytest.param("ruff", ["ruff", "check", "."], marks=pytest.mark.once),
    pytest.param("cython_lint", ["cython_lint.cython_lint", *CYTHON], marks=pytest.mark.once),
    ("mypy", ["mypy", "--strict", "mmgen"]),
    ("mypy", ["mypy.stubtest", "mmgen", "--allowlist", "allowed", "--mypy-config-file", str(ROOT / "pyproject.toml")]),
], ids=["ruff", "cython-lint", "mypy", "stubtest"])
def test_the_source(module, command, tmp_path):
    if not find_spec(module):
        pytest.skip(f"{module} is not installed")
    cwd = ROOT
    if "allowed" in command:
        (tmp_path / "allowed").write_text(ALLOWED)
        cwd = tmp_path                          # stubtest looks at the installed package
    scripts = Path(sys.executable).parent           # cython-lint runs pycodestyle by name
    result = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False,
                            env=os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"})
    assert result.returncode == 0, result.stdout + result.stderr
