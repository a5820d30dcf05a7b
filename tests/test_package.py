"""The package as others meet it: what wheel and sdist carry, and the examples, built and run from an empty environment."""
import os
import re
import shutil
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import mmgen
import pytest
from building import run

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/README.md"))
pytestmark = pytest.mark.unsanitized("builds everything again, and runs little of it")


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """An sdist and the wheel that pip built from it, isolated, when the source was gone."""
    out = tmp_path_factory.mktemp("dist")
    source = out / "source"
    tracked = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).split() if (ROOT / ".git").exists() else None
    for name in tracked or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", out, source)
    shutil.rmtree(source)
    sdist = next(out.glob("*.tar.gz"))
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, sdist, cwd=out)
    return sdist, next(out.glob("*.whl"))


@pytest.fixture(scope="module", params=["the installed wheel", pytest.param("the sdist's wheel", marks=pytest.mark.once)])
def wheel(request):
    """A wheel: of every Python the one that is tested, once the one that an sdist gives."""
    if "sdist" in request.param:
        return request.getfixturevalue("dist")[1]
    if "MMGEN_WHEEL" not in os.environ:
        pytest.skip("tests/run says which wheel it installed")
    return Path(os.environ["MMGEN_WHEEL"])


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """The environment variables of an empty virtual environment, where pip finds the wheel."""
    venv, tools = tmp_path_factory.mktemp("fresh"), tmp_path_factory.mktemp("tools")
    run(sys.executable, "-m", "venv", venv)
    config = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_config_var('LDVERSION')}-config"
    if config.exists():
        # Of this Python, whichever else there are; no link, since it finds its files from where it is.
        (tools / "python3-config").write_text(f'#!/bin/sh\nexec {config} "$@"\n')
        (tools / "python3-config").chmod(0o755)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return env | {"PATH": f"{venv}/bin:{tools}:{os.environ['PATH']}", "VIRTUAL_ENV": str(venv), "PIP_FIND_LINKS": str(wheel.parent),
                  "PIP_ONLY_BINARY": "mmgen-grace,numba,llvmlite,numpy", "PIP_QUIET": "2"}


def modules():
    """The extension modules: those that have a source here, and those of check that are made from one."""
    made = {ROOT / "mmgen" / "check" / name for name in ("_core.pyx", "_lifetime.pyx", "_callbacks.pyx")}
    return set((ROOT / "mmgen").rglob("*.pyx")) | made


@pytest.mark.once
def test_what_a_wheel_carries(dist):
    names = zipfile.ZipFile(dist[1]).namelist()
    package = {name.removeprefix("mmgen/") for name in names if name.startswith("mmgen/")}
    assert {"__init__.py", "__init__.pxd", "_stdatomic.pxd", "_core.pxd", "_core.pyi", "_domain.pxd", "_domain.pyi", "py.typed",
            "include/mmgen.h", "data/configure.mmtrace.tsv.gz"} <= package
    assert sum(name.endswith((".so", ".pyd")) for name in package) == len(modules())
    assert not [name for name in package if name.endswith((".c", ".pyx"))]
    assert {name.split("/")[0].split("-")[0] for name in names} == {"mmgen", "mmgen_grace"}
    assert dist[1].name.startswith("mmgen_grace-")


@pytest.mark.once
def test_what_an_sdist_carries(dist):
    names = {name.split("/", 1)[1] for name in tarfile.open(dist[0]).getnames() if "/" in name}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "mmgen/_core.pyx", "mmgen/_sleep.h", "tests/conftest.py"} <= names
    assert not [name for name in names if name.startswith("mmgen/") and name.endswith((".c", ".so"))]
    assert {"mmgen/check/hooked.py", "mmgen/check/_steps.pyx", "mmgen/check/_coroutine.h"} <= names
    assert "mmgen/check/_core.pyx" not in names         # made when it is built


@pytest.mark.once
def test_the_wheel_works_without_anything_else(dist, tmp_path):
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site", dist[1])
    script = "import mmgen; print(mmgen.__file__); m = mmgen.Machine(); m.start(); print(m.gen.wait()); m.close()"
    out = run(sys.executable, "-S", "-c", script, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")})
    assert out.split() == [str(tmp_path / "site" / "mmgen" / "__init__.py"), "True"]


def block(example, kind):
    """The only block of code of that kind in an example's README."""
    code, = re.findall(rf"^```{kind}\n(.*?)^```", (example / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return code


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_from_nothing(example, fresh, tmp_path):
    commands = block(example, "sh")
    if "numba" in commands and (sys.version_info >= (3, 14) or "t" in sys.abiflags):
        pytest.skip("there may be no numba for this Python yet")
    for needed in ("cc", "python3-config"):
        if f"{needed} " in commands and not shutil.which(needed, path=fresh["PATH"]):
            pytest.skip(f"{needed} is not installed")
    shutil.copytree(example, tmp_path / "it")
    out = run("sh", "-eu", "-c", commands, cwd=tmp_path / "it", env=fresh)
    assert out == block(example, "text")
    assert run("python", "-c", "import mmgen; print(mmgen.__file__)", cwd=tmp_path, env=fresh).startswith(fresh["VIRTUAL_ENV"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(example):
    assert {path.name: n for path in example.iterdir() if (n := len(path.read_text().splitlines())) >= 60} == {}


def test_every_example_has_a_readme():
    assert sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir()) == EXAMPLES
    assert len(EXAMPLES) >= 4


def test_one_version():
    metadata = run(sys.executable, "-c", "from importlib.metadata import version; print(version('mmgen-grace'))")
    assert metadata.strip() == mmgen.__version__
