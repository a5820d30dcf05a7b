"""The package as others meet it: what wheel and sdist carry, and building against the installed one from Cython, C and C++."""
import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import mmgen
import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.unsanitized("builds everything again, and runs little of it")


def run(*command, cwd=None, **options):
    options = {"capture_output": True, "text": True, "check": False, "timeout": 300} | options
    result = subprocess.run([*map(str, command)], cwd=cwd, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# `once` is what needs it: every Python has built a wheel already, the one that is installed.
@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """An sdist, and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    source = out / "source"
    tracked = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).split() if (ROOT / ".git").exists() else None
    for name in tracked or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


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


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FOREIGN = """
# cython: language_level=3, freethreading_compatible=True
from libc.stdint cimport uint32_t, uint64_t
from mmgen cimport (
    MmGen, mm_callback, mm_gen, mm_gen_defer, mm_gen_expedite, mm_gen_owes, mm_gen_quiescent, mm_gen_run_callbacks,
    mm_gen_close, mm_gen_create, mm_gen_destroy, mm_gen_idle_enter, mm_gen_online, mm_gen_poll, mm_gen_start_poll,
    mm_gen_tick, mm_gen_wait, mm_gen_wake, mm_switch,
)

cdef uint64_t rounds(mm_gen *g, uint32_t nr) noexcept nogil:
    cdef uint64_t cookie = mm_gen_start_poll(g), done = 0
    cdef uint32_t cpu
    while not mm_gen_poll(g, cookie):
        done += 1
        for cpu in range(nr):
            mm_switch(g, cpu)
            if mm_gen_tick(g, cpu):
                mm_gen_wake(g)
    return done

def drive(MmGen gen, uint32_t nr):
    with nogil:
        done = rounds(gen.g, nr)
    return done

def alone(uint32_t nr):
    cdef mm_gen *g = mm_gen_create(nr, nr, 2**64 - 1, 2**64 - 1)
    cdef uint32_t cpu
    cdef int err
    for cpu in range(nr):
        assert mm_gen_online(g, cpu) == 0 and mm_gen_online(g, cpu) < 0
    with nogil:
        done = rounds(g, nr)
    for cpu in range(nr):
        mm_gen_idle_enter(g, cpu)
    err = mm_gen_wait(g, 0)
    mm_gen_close(g)
    mm_gen_destroy(g)
    return done, err

cdef struct node:                       # what is to be freed, with the callback inside
    mm_callback callback
    int freed

cdef void free_node(mm_callback *callback) noexcept nogil:
    (<node *>callback).freed += 1

cdef void kick(void *arg, mm_gen *g) noexcept nogil:
    cdef uint32_t cpu
    (<int *>arg)[0] += 1
    for cpu in range(2):
        if mm_gen_owes(g, cpu):
            mm_gen_quiescent(g, cpu)

def in_c():
    cdef mm_gen *g = mm_gen_create(2, 2, 0, 0)
    cdef node nodes[3]
    cdef int early, ran, kicks = 0, i
    with nogil:
        g.kick = kick
        g.kick_arg = &kicks
        mm_gen_online(g, 0)
        mm_gen_online(g, 1)
        for i in range(3):
            nodes[i].freed = 0
            mm_gen_defer(g, &nodes[i].callback, free_node)
        early = mm_gen_run_callbacks(g, 100)
        mm_gen_expedite(g, nodes[2].callback.cookie)
        ran = mm_gen_run_callbacks(g, 2) * 10 + mm_gen_run_callbacks(g, 100)
        mm_gen_close(g)
        i = mm_gen_defer(g, &nodes[0].callback, free_node)
        mm_gen_destroy(g)
    return early, ran, kicks, [nodes[0].freed, nodes[1].freed, nodes[2].freed], i
"""


@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_foreign_cython_module(tmp_path, language):
    compiler = (sysconfig.get_config_var("CXX") or "c++").split()[0]
    if language == "c++" and not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "foreign.pyx").write_text(FOREIGN)
    (tmp_path / "setup.py").write_text(
        "from Cython.Build import cythonize\nfrom setuptools import Extension, setup\n"
        f"setup(ext_modules=cythonize([Extension('foreign', ['foreign.pyx'], language={language!r})]))\n")
    run(sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", cwd=tmp_path)
    foreign = load(next(tmp_path.glob("foreign.*.so")), "foreign")
    gen = mmgen.MmGen(3)
    assert foreign.drive(gen, 3) == 2
    assert gen.generation == 2
    assert foreign.alone(5) == (2, 0)
    assert foreign.in_c() == (0, 21, 3, [1, 1, 1], -errno.ESHUTDOWN)
    code = next(tmp_path.glob(f"foreign.{'cpp' if language == 'c++' else 'c'}")).read_text()
    assert "(*__pyx_f_5mmgen_5_core_mm_gen_start_poll)" in code             # a pointer, to be imported
    for inlined in ("void __pyx_f_5mmgen_5_core_mm_switch(", "int __pyx_f_5mmgen_5_core_mm_gen_tick("):
        assert f"CYTHON_INLINE {inlined}" in code


FROM_C = """
#include <Python.h>
#include <mmgen.h>

static PyObject *drive(PyObject *self, PyObject *arg)
{
    const struct mmgen_api *mmgen = (const struct mmgen_api *)PyCapsule_Import("mmgen._capi._C_API", 0);
    uint32_t nr = (uint32_t)PyLong_AsUnsignedLong(arg), cpu, rounds = 0;
    struct mm_gen *g;
    uint64_t cookie;
    (void)self;
    if (mmgen == NULL)
        return NULL;
    if (mmgen->abi != MMGEN_ABI || mmgen->sizeof_mm_gen != sizeof(struct mm_gen) || mmgen->sizeof_mm_cpu != sizeof(struct mm_cpu)) {
        PyErr_SetString(PyExc_ImportError, "another ABI");
        return NULL;
    }
    g = mmgen->mm_gen_create(nr, nr, 0, 7);
    for (cpu = 0; cpu < nr; cpu++)
        mmgen->mm_gen_online(g, cpu);
    cookie = mmgen->mm_gen_start_poll(g);
    for (; !mmgen->mm_gen_poll(g, cookie); rounds++)
        for (cpu = 0; cpu < nr; cpu++) {
            if (rounds & 1)
                mmgen->mm_switch(g, cpu);
            else
                mm_switch(g, cpu);
            if (rounds & 1 ? mmgen->mm_gen_tick(g, cpu) : mm_gen_tick(mmgen, g, cpu))
                mmgen->mm_gen_wake(g);
        }
    cookie = MMGEN_LOAD(&g->generation, relaxed) * 1000 + MMGEN_LOAD(&mm_cpu_of(g, nr - 1)->nr_mm_switches, relaxed);
    mmgen->mm_gen_close(g);
    mmgen->mm_gen_destroy(g);
    return PyLong_FromUnsignedLongLong(cookie);
}

static PyMethodDef methods[] = {{"drive", drive, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "fromc", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_fromc(void)
{
    PyObject *m = PyModule_Create(&module);
#ifdef Py_GIL_DISABLED
    if (m != NULL)
        PyUnstable_Module_SetGIL(m, Py_MOD_GIL_NOT_USED);
#endif
    return m;
}
"""


@pytest.mark.parametrize(("compiler", "standard", "suffix"), [
    ("gcc", "c11", "c"), ("g++", "c++17", "cpp"), ("clang", "c11", "c"), ("clang++", "c++17", "cpp")])
def test_the_header(tmp_path, compiler, standard, suffix):
    source, built = tmp_path / f"fromc.{suffix}", tmp_path / "fromc.so"
    source.write_text(FROM_C)
    include = Path(mmgen.__file__).parent / "include"
    flags = ["-shared", "-fPIC", "-O2", f"-std={standard}", "-Wall", "-Wextra", "-Werror", f"-I{include}"]
    try:
        run(compiler, *flags, "-isystem", sysconfig.get_path("include"), source, "-o", built)
    except FileNotFoundError:
        pytest.skip(f"{compiler} is not installed")
    assert load(built, "fromc").drive(3) == 2 * 1000 + 9


def test_one_version():
    metadata = run(sys.executable, "-c", "from importlib.metadata import version; print(version('mmgen-grace'))")
    assert metadata.strip() == mmgen.__version__
