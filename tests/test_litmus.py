"""The litmus tests of spec/litmus/, run by its enumerator; the orders in the source, each of which names one; and the enumerator, on
shapes whose verdicts are known."""
import importlib.util
import io
import re
import sys
import tokenize
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LITMUS = ROOT / "spec" / "litmus"
pytestmark = [pytest.mark.once, pytest.mark.unsanitized("runs the enumerator")]


def load(path):
    spec = importlib.util.spec_from_file_location(f"spec_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


rc11 = load(LITMUS / "rc11.py")
FILES = sorted(LITMUS.glob("*.litmus"))
SOUND = {path.stem for path in FILES if "-weakened" not in path.stem}
SOURCES = {name: (ROOT / "mmgen" / name).read_text()
           for name in ("_core.pxd", "_core.pyx", "_callbacks.pyx", "_lifetime.pyx", "_trace.pyx")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_sound_never_and_the_weakened_do(path):
    verdict = rc11.verdict(rc11.parse(path.read_text()))
    assert verdict in ({"Sometimes", "Race"} if "-weakened" in path.stem else {"Never"})


def test_every_sound_test_has_a_weakened_one():
    assert len(SOUND) >= 30
    assert {path.stem.split("-weakened")[0] for path in FILES if "-weakened" in path.stem} == SOUND


def header(name):
    return (LITMUS / f"{name}.litmus").read_text().split("*)")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_functions_they_name_are_there(path):
    text = path.read_text()
    assert rc11.parse(text).name == path.stem
    source = "".join(SOURCES.values())
    named = set(re.findall(r"\b(?:mm_(?:gen|trace)_\w+|credit_idle|open_next|bring_up|(?:load|store|cas|exchange|fetch_\w+)_u\d\d)\b",
                           header(path.stem)))
    assert named
    assert all(f"{name}(" in source for name in named)


def in_full(text):
    text = re.sub(r"\b(load|store|fetch_\w+)\(", r"atomic_\1_explicit(", text.replace("fence(", "atomic_thread_fence("))
    return re.sub(r"\b(relaxed|acquire|release|acq_rel|seq_cst)\b", r"memory_order_\1", text)


# What is said in a comment or in README.md to order the same as an order that the code asks for: the sound test, with that instead.
@pytest.mark.parametrize(("name", "changes"), [
    ("tick-generation", [("load(generation, acquire);", "load(generation, relaxed); fence(seq_cst);")]),
    ("goal-store", [("store(goal, 1, release)", "fence(seq_cst); store(goal, 1, relaxed)")]),
    ("tick-decrement", [("int r1 = fetch_sub(pending, 1, acq_rel)", "fence(seq_cst); int r1 = fetch_sub(pending, 1, acquire)")]),
    ("hold-parity", [("acq_rel", "acquire"), ("r1 = load(generation, acquire)", "r1 = load(generation, relaxed)")]),
    ("proxy-decrement", [("r1 = fetch_sub(pending, 1, acq_rel)", "r1 = fetch_sub(pending, 1, release)")]),
    ("idle-fence", [("goal, acquire", "goal, relaxed"), ("goal, 1, release", "goal, 1, relaxed")]),
    ("wait-fence", [("load(generation, acquire);\n}", "load(generation, relaxed);\n}")]),
    ("open-pending", [("r0 = fetch_add(pending, 1, acq_rel)",          # the hold's, and then bring_up's
                       "r0 = fetch_add(pending, 1, acquire); int r2 = fetch_add(pending, 8, relaxed)")]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_would_do(name, changes):
    head, body = (LITMUS / f"{name}.litmus").read_text().split("*)")
    for old, new in ((in_full(old), in_full(new)) for old, new in changes):
        assert body.count(old) == 1
        body = body.replace(old, new)
    assert rc11.verdict(rc11.parse(f"{head}*){body}")) == "Never"


def test_the_readme_lists_them_with_their_verdicts():
    rows = [line.strip("|").split("|") for line in (LITMUS / "README.md").read_text().splitlines() if re.match(r"\| `[\w-]+` \|", line)]
    listed = {}
    for first, *_, last in rows:
        name = first.strip(" `")
        assert name not in listed
        listed[name] = "Never"
        verdict = ""
        for word in reversed(last.split()):                 # `-weakened` `-weakened-before` Sometimes
            verdict = word if "`" not in word else verdict
            if "`" in word:
                listed[name + word.strip("`")] = verdict
    assert listed == {path.stem: rc11.verdict(rc11.parse(path.read_text())) for path in FILES}


# ---- the orders in the source --------------------------------------------------------------------------------------------------

STRONG = {f"memory_order_{order}" for order in ("acquire", "release", "acq_rel", "seq_cst")}
TAG = re.compile(r"\(litmus: ([\w-]+(?:, [\w-]+)*)\)")


class Order(NamedTuple):
    line: int
    function: str
    litmus: set[str]


def orders(source):
    """The statements that ask for an order, with the tests that their comments name.

    A statement's comments are those in its lines, and the comment right above it; above the first, where several stand together.
    """
    function, tokens, own, block, block_end, inherited = "", [], [], [], 0, None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        line = token.start[0]
        if token.type == tokenize.COMMENT:
            if tokens:
                own.append(token.string)
            else:
                block = [*block, token.string] if block_end == line - 1 else [token.string]
                block_end = line
        elif token.type in {tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING}:
            tokens.append(token)
        elif token.type == tokenize.NEWLINE:
            words = [t.string for t in tokens]
            first = tokens[0].start[0]
            if words[0] == "cdef" and words[-1] == ":" and "(" in words:
                function = words[words.index("(") - 1]
            above = block if block_end == first - 1 else inherited[1] if inherited and inherited[0] == first - 1 else []
            inherited = None
            if STRONG & set(words) and "cimport" not in words:
                text = " ".join(comment.lstrip("# ") for comment in [*above, "", *own])
                yield Order(first, function, {name for names in TAG.findall(text) for name in names.split(", ")})
                inherited = line, above
            tokens, own = [], []


def faults(source):
    """What is wrong with the comments on the orders of a source."""
    for line, function, named in orders(source):
        if not named:
            yield f"{line}: an order in {function} names no litmus test"
        for name in sorted(named):
            if name not in SOUND:
                yield f"{line}: {function} names {name}, and there is no such test"
            elif not re.search(rf"\b{function}\b", header(name)):
                yield f"{line}: {function} names {name}, which does not name {function}"


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_every_order_names_its_test(source):
    assert list(orders(source))
    assert not list(faults(source))


def test_every_order_is_seen():
    # The other way to count them: by lines. open_next's two are one line each, close's while has two in one.
    for source in SOURCES.values():
        code = [line.split("#")[0] for line in source.splitlines()]
        lines = [n for n, line in enumerate(code, 1) if re.search(rf"\b(?:{'|'.join(STRONG)})\)", line)]
        lines += [n for n, line in enumerate(code, 1) if re.search(rf"\bcas_u..\(.*\b(?:{'|'.join(STRONG)}),", line)]
        seen = [order.line for order in orders(source)]
        assert len(lines) == len(seen)
        assert all(0 <= line - first <= 1 for line, first in zip(sorted(lines), seen, strict=True))    # mm_gen_owes' is in a second line


def unused(sources, sound):
    return sound - {name for source in sources for order in orders(source) for name in order.litmus}


def test_every_test_is_named_by_an_order():
    assert not unused(SOURCES.values(), SOUND)
    assert unused(SOURCES.values(), SOUND | {"spare"}) == {"spare"}
    assert unused([source.replace("tick-fence", "tick-goal") for source in SOURCES.values()], SOUND) == {"tick-fence"}


@pytest.mark.parametrize(("file", "old", "new", "fault"), [
    ("_core.pyx", "unpublished (litmus: tick-fence).", "unpublished.", "an order in mm_gen_tick_wanted names no"),
    ("_core.pyx", "(litmus: sleep-fence)", "(litmus: sleep-fences)", "mm_gen_wake_sleepers names sleep-fences, and there is no such"),
    ("_core.pxd", "(litmus: tick-goal)", "(litmus: tick-goal-weakened)", "mm_gen_tick names tick-goal-weakened, and there is no such"),
    ("_core.pyx", "(litmus: hold-release, wake-look)", "(litmus: online)", "release names online, which does not name release"),
    ("_core.pyx", "    g.kick(g.kick_arg, g)", "    fence(memory_order_seq_cst)\n            g.kick(g.kick_arg, g)",
     "an order in kick_holdouts names no"),
    ("_core.pyx", "nr_ticks, memory_order_relaxed)\n    if c.ticked", "nr_ticks, memory_order_acquire)\n    if c.ticked",
     "an order in impatient names no"),
    ("_core.pyx", "(litmus: wait-load).\n", "(litmus: wait-load).\n\n", "an order in mm_gen_poll names no"),
    ("_core.pyx", "    store_u64(&g.generation, gen + 1", "    gen += 0\n    store_u64(&g.generation, gen + 1",
     "an order in open_next names no"),
    ("_lifetime.pyx", "(litmus: leave)", "", "an order in mm_gen_close names no"),
    ("_callbacks.pyx", "(litmus: barrier-load)\n    store", "\n    store", "an order in mm_gen_run_callbacks names no"),
], ids=lambda value: value if "litmus" in value or "names" in value else "")
def test_a_fault_is_found(file, old, new, fault):
    assert SOURCES[file].count(old) == 1
    found = list(faults(SOURCES[file].replace(old, new)))
    assert len(found) == 1
    assert re.search(rf"^\d+: {re.escape(fault)}", found[0])


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
