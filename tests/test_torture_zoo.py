"""The protocol with one thing broken, again and again: the torture must find each out.

The variants are the search's (mmgen/check/hooked.py), built here as the package itself. Left out is what shows only if a thread is stopped
between two certain instructions, or behind another processor's store buffers: luck finds that, or does not. The search has them all.
"""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mmgen
import pytest
from mmgen.check import hooked

ROOT = Path(__file__).parents[1]
ZOO = ["one-short-on-demand", "one-short-joining", "no-idle-scan", "no-credit-in-wake", "no-look-after-idle", "counts-unswitched",
       "wakes-nobody", "open-order", "offline-keeps-debt", "offline-pays-twice", "online-owes-nothing", "exit-past-proxy",
       "callbacks-early", "plain-compare", "plain-debt", "plain-maximum"]

BUILD = """
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(name="broken", packages=[], ext_modules=cythonize([Extension("mmgen.MODULE", ["mmgen/MODULE.pyx"], include_dirs=["mmgen"])]))
"""

TORTURE = """
import sys
from mmgen import torture
report = torture.torture(float(sys.argv[1]), seed=5, hang_s=float(sys.argv[2]))
print(report["verdict"], report["failures"])
sys.exit(1 if report["nr_failures"] else 0)
"""


def torture(tmp_path, module, source, minutes, hang_s):
    """The result of a torture of a copy of the installed package, with `module` built anew: the others find its functions by name."""
    package = tmp_path / "mmgen"
    shutil.copytree(Path(mmgen.__file__).parent, package)
    for built in package.glob(f"{module}.*.so"):
        built.unlink()
    (package / f"{module}.pyx").write_text(source)
    (tmp_path / "setup.py").write_text(BUILD.replace("MODULE", module))
    build = subprocess.run([sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=tmp_path, capture_output=True, text=True,
                           check=False, timeout=600)
    assert build.returncode == 0, build.stdout + build.stderr
    assert len(list(package.glob(f"{module}.*.so"))) == 1
    return subprocess.run([sys.executable, "-c", TORTURE, str(minutes), str(hang_s)], cwd=tmp_path, capture_output=True, text=True,
                          check=False, timeout=600, env=os.environ | {"PYTHONPATH": str(tmp_path)})


@pytest.mark.long
@pytest.mark.parametrize("name", ZOO)
def test_the_torture_finds_out(name, tmp_path):
    ((file, source),) = hooked.broken_source(ROOT / "mmgen", name).items()
    result = torture(tmp_path, file.removesuffix(".pyx"), source, 4.0, 10.0)
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout.startswith("FAILED, ")


@pytest.mark.long
@pytest.mark.parametrize("module", ["_core", "_callbacks"])
def test_the_torture_finds_nothing_where_nothing_is_broken(module, tmp_path):
    result = torture(tmp_path, module, (ROOT / "mmgen" / f"{module}.pyx").read_text(), 1.0, 60.0)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.startswith("No failure: ")


def test_the_proof_says_which():
    rows = [row.split("|") for row in (ROOT / "docs" / "proof.md").read_text().splitlines() if row.startswith("| `")]
    assert [row[1].strip(" `") for row in rows if row[-2].strip() == "yes"] == ZOO
