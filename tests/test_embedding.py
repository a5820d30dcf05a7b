"""The C interface as other modules compile it in: its layouts and functions, in which languages, and what it refuses."""
import ctypes
import errno
import gc
import re
import shutil
import struct
import sys
from pathlib import Path

import building
import mmgen
import pytest
from building import HEADER
from mmgen import Op, _capi
from mmgen.capi import Api

ROOT = Path(__file__).parents[1]
ENTRANCES = Path(__file__).parent / "entrances"
PACKAGE = Path(mmgen.__file__).parent
pytestmark = pytest.mark.unsanitized("compiles other modules, without the sanitizer")


# ---- header, .pxd and ctypes say the same ---------------------------------------------------------------------------------------

def fields():
    """[(struct, field), ...] that the .pxd files declare, without padding."""
    found = []
    for file, name in (("_core", "mm_cpu"), ("_core", "mm_callback"), ("_core", "mm_gen"), ("_batch", "mm_op")):
        body = re.search(rf"^cdef struct {name}:.*?\n((?:    .*\n)+)", (PACKAGE / f"{file}.pxd").read_text(), re.MULTILINE)[1]
        for line in re.sub(r" *#.*", "", body).splitlines():
            field = re.search(r"\(\*(\w+)\)", line) or re.search(r"(\w+)(\[\d+\])?$", line)
            found += [(name, field[1])] if not field[1].startswith("pad") else []
    return found


CONSTANTS = ["MM_OFFLINE", "MM_RUNNING", "MM_IDLE", "MM_PROXIED", "MM_OPEN", "MM_CLOSED", "MM_DRIVERLESS", "MM_OP_SWITCH", "MM_OP_TICK",
             "MM_OP_QUIESCENT", "MM_OP_IDLE_ENTER", "MM_OP_IDLE_EXIT", "MM_OP_ONLINE", "MM_OP_OFFLINE", "MMGEN_ABI"]


@pytest.mark.once
@pytest.mark.parametrize("language", ["c", "c++"])
def test_header_and_pxd_have_one_layout(tmp_path, language):
    rows = fields()
    assert len(rows) == 8 + 3 + 11 + 2
    declared = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    for name, field in rows:
        assert re.search(rf"^struct {name} \{{[^}}]*\b{field}\b", declared, re.MULTILINE), f"the header's {name} has no {field}"
    names = {name for name, _ in rows}
    verbatim = ", ".join(f"offsetof(struct {s}, {f}), sizeof((({'struct ' + s} *)0)->{f})" for s, f in rows)
    whole = ", ".join(f"sizeof(struct {name})" for name in sorted(names))
    constants = ", ".join(CONSTANTS)
    pxd = ", ".join(f"<size_t>&(<{s} *>NULL).{f}, sizeof((<{s} *>NULL).{f})" for s, f in rows)
    layout = building.cython(tmp_path, "layout", f'''
# cython: language_level=3
from mmgen cimport {", ".join(sorted(names))}, {constants}
cdef extern from *:
    """
    #include <stddef.h>
    #include <mmgen.h>
    static const size_t header_fields[] = {{{verbatim}, {whole}}};
    static const long header_constants[] = {{{constants}}};
    """
    const size_t header_fields[{2 * len(rows) + len(names)}]
    const long header_constants[{len(CONSTANTS)}]
def of_header():
    return list(header_fields), list(header_constants)
def of_pxd():
    return [{pxd}, {", ".join(f"sizeof({name})" for name in sorted(names))}], [{constants}]
''', language)
    assert layout.of_header() == layout.of_pxd()
    assert len(set(layout.of_pxd()[0])) > 5


def declarations():
    """{function: (what it returns, [the type of each argument])} of the .pxd files."""
    found = {}
    for file in ("_core", "_batch", "_callbacks", "_lifetime", "_snapshot"):
        text = (PACKAGE / f"{file}.pxd").read_text().replace(" noexcept nogil", "").replace("bint", "int")
        for returns, name, arguments in re.findall(r"^cdef (?:inline )?(.+?)\b(mm_\w+)\((.*)\)(?=:|\s|$)", text, re.MULTILINE):
            found[name] = signature(returns, arguments)
    return found


def signature(returns, arguments):
    # A function's own arguments stay with it: the comma between them, were there one, would be a space here.
    types = [a.strip() for a in arguments.split(",")]
    return returns.strip(), [t if "(*" in t else re.sub(r"\s*\b\w+$", "", t) for t in types]


def table():
    """The same of the header's table, in its order."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL).replace("struct ", "")
    body = re.search(r"^mmgen_api \{(.*?)\n\}", text, re.MULTILINE | re.DOTALL)[1]
    return {name: signature(returns, arguments)
            for returns, name, arguments in re.findall(r"^    (.+?)\(\*(\w+)\)\((.*)\);", body, re.MULTILINE)}


def test_table_and_pxd_declare_the_same_functions():
    declared, listed = declarations(), table()
    assert len(listed) == 32
    assert {name: declared[name] for name in listed} == listed
    public = set(re.findall(r"\bmm_\w+\b", (PACKAGE / "__init__.pxd").read_text().split("\n", 2)[2]))
    public -= {"mm_gen", "mm_cpu", "mm_callback", "mm_op"}
    # Inline in the header; the check before a batch, which C has no need of; what the header's own mm_gen_tick goes on to.
    assert public - {"mm_cpu_of", "mm_gen_check"} == set(listed) - {"mm_gen_tick_wanted"}


@pytest.mark.once
def test_the_table_has_each_function_where_its_name_is(tmp_path):
    inline = {"mm_switch", "mm_gen_tick", "mm_gen_quiescent", "mm_gen_tick_wanted"}    # each module has its own; not public
    names = [name for name in table() if name not in inline]
    addresses = building.cython(tmp_path, "addresses", f'''
# cython: language_level=3
from mmgen cimport {", ".join(names)}
def of():
    return [{", ".join(f"<size_t>{name}" for name in names)}]
''').of()
    api = Api.from_address(_capi.TABLE)
    assert [ctypes.cast(getattr(api, name), ctypes.c_void_p).value for name in names] == addresses
    assert len(set(addresses)) == len(names)


def test_ctypes_has_the_table_of_the_header():
    kinds = {"void": None, "int": ctypes.c_int, "uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64, "int64_t": ctypes.c_int64,
             "size_t": ctypes.c_size_t, "uint64_t *": ctypes.POINTER(ctypes.c_uint64)}

    def kind(c):
        return kinds.get(c, ctypes.c_void_p)            # a pointer

    functions = [field for field in Api._fields_ if field[0].startswith("mm_")]
    assert {name: (function._restype_, list(function._argtypes_)) for name, function in functions} == {
        name: (kind(returns), [kind(argument) for argument in arguments]) for name, (returns, arguments) in table().items()}
    assert [name for name, _ in functions] == list(table())
    api = Api.from_address(_capi.TABLE)
    assert (api.abi, api.sizeof_api, api.sizeof_mm_gen, api.sizeof_mm_cpu, api.max_cpus) == (1, ctypes.sizeof(Api), 256, 64, 2**20)


# ---- other languages ------------------------------------------------------------------------------------------------------------

FOREIGN = """
# cython: language_level=3, freethreading_compatible=True
from libc.stdint cimport uint32_t, uint64_t
from mmgen cimport (
    MmGen, import_mmgen, mm_callback, mm_gen, mm_gen_close, mm_gen_create, mm_gen_defer, mm_gen_destroy, mm_gen_expedite,
    mm_gen_idle_enter, mm_gen_online, mm_gen_owes, mm_gen_poll, mm_gen_quiescent, mm_gen_run_callbacks, mm_gen_start_poll, mm_gen_tick,
    mm_gen_wait, mm_gen_wake, mm_switch,
)

import_mmgen()

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

def drive(MmGen gen not None, uint32_t nr):
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
    foreign = building.cython(tmp_path, "foreign", FOREIGN, language)
    gen = mmgen.MmGen(3)
    assert foreign.drive(gen, 3) == 2
    assert gen.generation == 2
    assert foreign.alone(5) == (2, 0)
    assert foreign.in_c() == (0, 21, 3, [1, 1, 1], -errno.ESHUTDOWN)
    with pytest.raises(TypeError, match=r"incorrect type \(expected mmgen._domain.MmGen, got int\)"):
        foreign.drive(5, 3)
    code = next(tmp_path.glob(f"foreign.{'cpp' if language == 'c++' else 'c'}")).read_text()
    assert "(*__pyx_f_5mmgen_5_core_mm_gen_start_poll)" in code             # a pointer, to be imported
    for inlined in ("void __pyx_f_5mmgen_5_core_mm_switch(", "int __pyx_f_5mmgen_5_core_mm_gen_tick("):
        assert f"CYTHON_INLINE {inlined}" in code


@pytest.mark.parametrize(("compiler", "standard"), [("gcc", "c11"), ("g++", "c++17"),
    *(pytest.param(*it, marks=pytest.mark.once) for it in [("clang", "c11"), ("clang++", "c++17")])])
def test_the_header(tmp_path, compiler, standard):
    header = building.c(tmp_path, "header", (ENTRANCES / "header.c").read_text(), compiler, standard)
    assert header.alone(5) == 1                         # two generations after 2**64 - 1
    gen, other = mmgen.MmGen(2), mmgen.MmGen(2)
    ops = struct.pack("8I", 0, 7, 0, Op.QUIESCENT, 1, Op.SWITCH, 1, Op.TICK)
    assert header.apply(gen.capsule, ops, False) == header.apply(other.capsule, ops, True) == gen.snapshot()
    assert gen.generation == 1


@pytest.mark.once
def test_rust(tmp_path):
    building.need("rustc")
    building.run("rustc", "--edition=2021", "--crate-type=cdylib", "-O", "-o", tmp_path / "driver.so", ENTRANCES / "driver.rs")
    drive = ctypes.CDLL(tmp_path / "driver.so").drive
    drive.argtypes, drive.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32), ctypes.c_int64
    gen = mmgen.MmGen(3)
    assert drive(_capi.TABLE, gen.ctypes.address, 3) == 2
    assert gen.generation == 2


def shown(language):
    """The only block of code in that language in the document."""
    code, = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "docs" / "embedding.md").read_text(), re.MULTILINE | re.DOTALL)
    return code


@pytest.mark.once
def test_what_the_document_shows_in_cython(tmp_path):
    gen = mmgen.MmGen(1)
    building.cython(tmp_path, "document", "# cython: language_level=3\n" + shown("cython")).turn(gen, 0)
    assert gen.cpu(0).switches == 1


@pytest.mark.once
def test_what_the_document_shows_in_c(tmp_path):
    module = building.c(tmp_path, "document", shown("c") + """
static PyMethodDef methods[] = {{"turn", turn, METH_O, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "document", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit_document(void) { return PyModule_Create(&module); }
""")
    gen = mmgen.MmGen(1)
    module.turn(gen.capsule)
    assert gen.cpu(0).switches == 1
    with pytest.raises(TypeError, match="is not the capsule"):
        module.turn(gen)


def test_ctypes():
    with mmgen.MmGen(2) as gen:
        address, api, domain = gen.ctypes
        assert domain is gen
        cookie = api.mm_gen_start_poll(address)
        for _ in range(2):
            assert not api.mm_gen_poll(address, cookie)
            for cpu in range(2):
                api.mm_switch(address, cpu)
                if api.mm_gen_tick(address, cpu):
                    api.mm_gen_wake(address)
        assert api.mm_gen_wait_for(address, cookie, -1) == 0
        assert gen.poll(gen.cookie(cookie))
    assert api.mm_gen_wait(address, -1) == -errno.ESHUTDOWN
    with pytest.raises(mmgen.ClosedError):
        _ = gen.ctypes
    with pytest.raises(ctypes.ArgumentError):
        api.mm_switch(1.5, 0)


def test_cflags(python, monkeypatch):
    result = python("import runpy, sys; sys.argv[1:] = ['--cflags']; runpy.run_module('mmgen', run_name='__main__')")
    assert result.stdout == f"-I{mmgen.get_include()}\n"
    assert (Path(mmgen.get_include()) / "mmgen.h").is_file()
    without_extras = "import sys; sys.modules['rich'] = None\n"
    assert python(without_extras + "import runpy; sys.argv[1:] = ['--cflags']; runpy.run_module('mmgen', run_name='__main__')").stdout
    version = building.run(sys.executable, "-m", "mmgen", "--version", cwd="/")
    assert version == f"mmgen {mmgen.__version__}\n"


# ---- what is refused ------------------------------------------------------------------------------------------------------------

def patched(directory, file, old, new):
    """The directory of a copy of the package's .pxd files, or of its header, where one of them is another mmgen's."""
    target = directory / "other" / "mmgen"
    target.mkdir(parents=True)
    for source in [*PACKAGE.glob("*.pxd"), *PACKAGE.glob("*.h"), HEADER]:
        shutil.copy(source, target)
    text = (target / file).read_text()
    assert text.count(old) == 1
    (target / file).write_text(text.replace(old, new))
    return target


@pytest.mark.once
@pytest.mark.parametrize(("file", "old", "new", "says"), [
    ("_capi.pxd", "MMGEN_ABI = 1 ", "MMGEN_ABI = 99 ", "compiled for mmgen's ABI 99; the installed mmgen has ABI 1"),
    ("_core.pxd", "    atomic_u64 nr_kicks", "    uint64_t more\n    atomic_u64 nr_kicks",
     r"compiled for mm_gen, mm_cpu and mm_callback of 256, 72 and 24 bytes; in the installed mmgen they have 256, 64 and 24"),
], ids=["number", "size"])
def test_a_cython_module_of_another_abi(tmp_path, file, old, new, says):
    with pytest.raises(ImportError, match=says):
        building.cython(tmp_path, "stranger", "from mmgen cimport import_mmgen\nimport_mmgen()\n",
                        include_path=[patched(tmp_path, file, old, new).parent])


@pytest.mark.once
@pytest.mark.parametrize(("old", "new", "says"), [
    ("#define MMGEN_ABI 1 ", "#define MMGEN_ABI 99 ", "mmgen.h of another ABI"),
    ("    uint64_t first_tick;", "    uint64_t first_tick, more;", "other layouts"),
    ("    void (*mm_gen_destroy)", "    void (*mm_gen_more)(void);\n    void (*mm_gen_destroy)", "newer mmgen.h"),
], ids=["number", "size", "newer"])
def test_a_c_module_of_another_abi(tmp_path, old, new, says):
    include = patched(tmp_path, "mmgen.h", old, new)
    with pytest.raises(ImportError, match=says):
        building.c(tmp_path, "header", (ENTRANCES / "header.c").read_text(), include=include)


def test_a_foreign_capsule(tmp_path):
    header = building.c(tmp_path, "header", (ENTRANCES / "header.c").read_text())
    for stranger in (None, 5, mmgen.MmGen(1), _capi._C_API):
        with pytest.raises(TypeError, match=r"is not the capsule of an mmgen.MmGen"):
            header.apply(stranger, b"", False)


@pytest.mark.once
def test_a_capsule_of_another_abi(tmp_path):
    (tmp_path / "new").mkdir()
    header = building.c(tmp_path / "new", "header", (ENTRANCES / "header.c").read_text())
    gen = mmgen.MmGen(1)
    capsule = gen.capsule
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    ctypes.c_uint32.from_address(pointer(capsule, b"mmgen.domain")).value = 99
    with pytest.raises(ImportError, match="the domain is of an mmgen with another ABI than this mmgen.h's"):
        header.apply(capsule, b"", False)


def test_a_capsule_keeps_its_domain(tmp_path):
    header = building.c(tmp_path, "header", (ENTRANCES / "header.c").read_text())
    capsule = mmgen.MmGen(2).capsule
    gc.collect()
    assert len(header.apply(capsule, struct.pack("2I", 1, Op.SWITCH), True)) == 256
    with mmgen.MmGen(2) as gen:
        capsule = gen.capsule
    with pytest.raises(RuntimeError, match=r"^-\d+$"):         # closed
        header.apply(capsule, struct.pack("2I", 1, Op.OFFLINE), True)
    with pytest.raises(mmgen.ClosedError):
        _ = gen.capsule
