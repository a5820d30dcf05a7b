"""The litmus tests of spec/litmus/, run by its enumerator; and the enumerator, on shapes whose verdicts are known."""
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LITMUS = ROOT / "spec" / "litmus"
pytestmark = pytest.mark.unsanitized("runs the enumerator")


def load(path):
    spec = importlib.util.spec_from_file_location(f"spec_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rc11 = load(LITMUS / "rc11.py")
FILES = sorted(LITMUS.glob("*.litmus"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_sound_never_and_the_weakened_do(path):
    verdict = rc11.verdict(rc11.parse(path.read_text()))
    assert verdict in ({"Sometimes", "Race"} if "-weakened" in path.stem else {"Never"})


def test_every_sound_test_has_a_weakened_one():
    sound = {path.stem for path in FILES if "-weakened" not in path.stem}
    assert len(sound) >= 15
    assert sound == {path.stem.split("-weakened")[0] for path in FILES if "-weakened" in path.stem}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_functions_they_name_are_there(path):
    text = path.read_text()
    assert rc11.parse(text).name == path.stem
    source = (ROOT / "mmgen" / "_core.pyx").read_text() + (ROOT / "mmgen" / "_core.pxd").read_text()
    named = set(re.findall(r"\b(?:mm_gen_\w+|credit_idle|open_next|bring_up|(?:load|store|cas|fetch_\w+)_u\d\d)\b",
                           text.split("*)")[0]))
    assert named
    assert all(f"{name}(" in source for name in named)


# ---- the enumerator ------------------------------------------------------------------------------------------------------------

def w(loc, order, value=1):
    return f"atomic_store_explicit({loc}, {value}, memory_order_{order});"


def r(reg, loc, order):
    return f"int {reg} = atomic_load_explicit({loc}, memory_order_{order});"


def add(reg, loc, order):
    return f"int {reg} = atomic_fetch_add_explicit({loc}, 1, memory_order_{order});"


def f(order):
    return f"atomic_thread_fence(memory_order_{order});" if order else ""


def shape(exists, *threads, init=""):
    params = "(atomic_int* x, atomic_int* y, int* z)"
    body = "\n".join(f"P{n} {params} {{ {' '.join(thread)} }}" for n, thread in enumerate(threads))
    return rc11.verdict(rc11.parse(f"C shape {{ {init} }}\n{body}\nexists ({exists})"))


def sb(ws, rs, *fences):
    a, b = (*fences, "", "")[:2]
    return shape(r"0:a=0 /\ 1:a=0", [w("x", ws), f(a), r("a", "y", rs)], [w("y", ws), f(b), r("a", "x", rs)])


def mp(ws, rs, before="", after=""):
    return shape(r"1:a=1 /\ 1:b=0", [w("x", "relaxed"), f(before), w("y", ws)], [r("a", "y", rs), f(after), r("b", "x", "relaxed")])


def lb(ws, rs, fence=""):
    return shape(r"0:a=1 /\ 1:a=1", [r("a", "x", rs), f(fence), w("y", ws)], [r("a", "y", rs), f(fence), w("x", ws)])


def iriw(ws, first, second, fence=""):
    return shape(r"1:a=1 /\ 1:b=0 /\ 2:a=1 /\ 2:b=0", [w("x", ws)], [r("a", "x", first), f(fence), r("b", "y", second)],
                 [r("a", "y", first), f(fence), r("b", "x", second)], [w("y", ws)])


def two_plus_two(order, fence=""):
    return shape(r"x=1 /\ y=1", [w("x", order, 1), f(fence), w("y", order, 2)], [w("y", order, 1), f(fence), w("x", order, 2)])


def rwc(fence, reader=""):
    return shape(r"1:a=1 /\ 1:b=0 /\ 2:a=0", [w("x", "release")], [r("a", "x", "acquire"), f(reader or fence), r("b", "y", "relaxed")],
                 [w("y", "relaxed"), f(fence), r("a", "x", "relaxed")])


@pytest.mark.parametrize(("verdict", "expected"), [
    (lambda: sb("relaxed", "relaxed"), "Sometimes"),
    (lambda: sb("release", "acquire"), "Sometimes"),
    (lambda: sb("relaxed", "relaxed", "acq_rel", "acq_rel"), "Sometimes"),
    (lambda: sb("relaxed", "relaxed", "seq_cst"), "Sometimes"),
    (lambda: sb("relaxed", "relaxed", "seq_cst", "seq_cst"), "Never"),
    (lambda: sb("seq_cst", "seq_cst"), "Never"),
    (lambda: sb("seq_cst", "acquire"), "Sometimes"),
    (lambda: mp("relaxed", "relaxed"), "Sometimes"),
    (lambda: mp("release", "relaxed"), "Sometimes"),
    (lambda: mp("relaxed", "acquire"), "Sometimes"),
    (lambda: mp("release", "acquire"), "Never"),
    (lambda: mp("relaxed", "relaxed", "release", "acquire"), "Never"),
    (lambda: mp("relaxed", "acquire", "release"), "Never"),
    (lambda: mp("release", "relaxed", after="acquire"), "Never"),
    (lambda: mp("relaxed", "relaxed", "acquire", "release"), "Sometimes"),
    (lambda: mp("relaxed", "relaxed", "seq_cst", "seq_cst"), "Never"),
    (lambda: lb("relaxed", "relaxed"), "Never"),                                # RC11: sb and rf have no cycle
    (lambda: lb("relaxed", "relaxed", "seq_cst"), "Never"),
    (lambda: iriw("relaxed", "relaxed", "relaxed"), "Sometimes"),
    (lambda: iriw("release", "acquire", "acquire"), "Sometimes"),
    (lambda: iriw("relaxed", "relaxed", "relaxed", "acq_rel"), "Sometimes"),
    (lambda: iriw("relaxed", "relaxed", "relaxed", "seq_cst"), "Never"),
    (lambda: iriw("seq_cst", "seq_cst", "seq_cst"), "Never"),
    (lambda: iriw("seq_cst", "acquire", "seq_cst"), "Sometimes"),               # the paper's IRIW-acq-sc
    (lambda: two_plus_two("relaxed"), "Sometimes"),
    (lambda: two_plus_two("release"), "Sometimes"),
    (lambda: two_plus_two("relaxed", "acq_rel"), "Sometimes"),
    (lambda: two_plus_two("relaxed", "seq_cst"), "Never"),
    (lambda: two_plus_two("seq_cst"), "Never"),
    (lambda: rwc("seq_cst"), "Never"),
    (lambda: rwc("acq_rel"), "Sometimes"),
    (lambda: rwc("seq_cst", "acq_rel"), "Sometimes"),
    # The paper's Z6.U: C11 forbids it, Power does not, nor does RC11.
    (lambda: shape(r"1:a=1 /\ 1:b=3 /\ 2:a=0", [w("x", "seq_cst"), w("y", "release")], [add("a", "y", "seq_cst"), r("b", "y", "relaxed")],
                   [w("y", "seq_cst", 3), r("a", "x", "seq_cst")]), "Sometimes"),
    # Coherence: a thread does not see a location go back, nor its own store undone.
    (lambda: shape(r"1:a=1 /\ 1:b=0", [w("x", "relaxed")], [r("a", "x", "relaxed"), r("b", "x", "relaxed")]), "Never"),
    (lambda: shape("0:a=0", [w("x", "relaxed"), r("a", "x", "relaxed")]), "Never"),
    (lambda: shape("x=1", [w("x", "relaxed"), w("x", "relaxed", 2)]), "Never"),
    # Atomicity: two increments make two, whatever their orders.
    (lambda: shape("x=2", [add("a", "x", "relaxed")], [add("a", "x", "relaxed")]), "Sometimes"),
    (lambda: shape("x=1", [add("a", "x", "relaxed")], [add("a", "x", "relaxed")]), "Never"),
    (lambda: shape(r"0:a=0 /\ 1:a=0", [add("a", "x", "relaxed")], [add("a", "x", "relaxed")]), "Never"),
    # A release sequence goes through another thread's read-modify-write, but not through its store.
    (lambda: shape(r"1:a=1 /\ 2:a=2 /\ 2:b=0", [w("y", "relaxed"), w("x", "release")], [add("a", "x", "relaxed")],
                   [r("a", "x", "acquire"), r("b", "y", "relaxed")]), "Never"),
    (lambda: shape(r"1:a=1 /\ 2:a=2 /\ 2:b=0", [w("y", "relaxed"), w("x", "release")], [r("a", "x", "relaxed"), w("x", "relaxed", 2)],
                   [r("a", "x", "acquire"), r("b", "y", "relaxed")]), "Sometimes"),
    # Races: of plain accesses only, and only where nothing orders them.
    (lambda: shape("0:a=9", ["int a = *z;"], ["*z = 1;"]), "Race"),
    (lambda: shape("0:a=9", ["int a = *z;"], ["int a = *z;"]), "Never"),
    (lambda: shape("1:b=9", ["*z = 1;", w("x", "release")], [r("a", "x", "acquire"), "if (a == 1) { int b = *z; }"]), "Never"),
    (lambda: shape("1:b=1", ["*z = 1;", w("x", "release")], [r("a", "x", "acquire"), "if (a == 1) { int b = *z; }"]), "Sometimes"),
    (lambda: shape("1:b=0", ["*z = 1;", w("x", "release")], [r("a", "x", "acquire"), "if (a == 1) { int b = *z; }"]), "Never"),
    (lambda: shape("1:b=9", ["*z = 1;", w("x", "relaxed")], [r("a", "x", "acquire"), "if (a == 1) { int b = *z; }"]), "Race"),
    (lambda: shape("x=3", [w("x", "relaxed")], init="x = 3;"), "Never"),
])
def test_what_is_known(verdict, expected):
    assert verdict() == expected


@pytest.mark.parametrize("text", [
    "C a { } P0 (atomic_int* x) { x = 1; } exists (x=1)",
    "C a { } P1 (atomic_int* x) { } exists (x=1)",
    r"C a { } P0 (atomic_int* x) { } exists (x=1 \/ x=2)",
    "C a { } P0 (atomic_int* x) { }",
])
def test_what_is_not_read_is_refused(text, tmp_path, capsys):
    with pytest.raises(ValueError, match="no `C name|not understood|not P0"):
        rc11.parse(text)
    (tmp_path / "a.litmus").write_text(text)
    assert rc11.main([str(tmp_path / "a.litmus")]) == 2
    assert "a.litmus" in capsys.readouterr().err
