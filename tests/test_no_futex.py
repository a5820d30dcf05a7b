"""The other half of _sleep.h, which systems without a futex use, built on this one."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_the_suite_without_a_futex(tmp_path):
    shutil.copytree(ROOT / "mmgen", tmp_path / "mmgen", ignore=shutil.ignore_patterns("*.so", "*.c"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    env = os.environ | {"CFLAGS": "-DMMGEN_NO_FUTEX", "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=tmp_path, env=env, check=True)
    core = next((tmp_path / "mmgen").glob("_core.*.so"))
    assert b"pthread_cond_timedwait" in core.read_bytes()
    left_out = "not package and not lint and not disassembly and not no_futex and not readme and not spec and not documented"
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", "-k", left_out], cwd=tmp_path, env=env,
                   check=True, timeout=900)
