"""The checked copy of the source: mmgen's own lines, with their atomics and their lock hooked, and with the broken variants put in.

setup.py calls write() before it compiles; nothing here imports the package. Each broken variant is a list of edits of the real source:
the copy has both texts, and which one runs is chosen when a search begins. The package itself has none of this.
"""
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

FILES = ("_core.pxd", "_core.pyx", "_control.pxd", "_lifetime.pxd", "_lifetime.pyx", "_callbacks.pxd", "_callbacks.pyx")
HOOKED = ("_stdatomic", "_sleep", "_core", "_control", "_lifetime", "_callbacks")      # _trace's rings are not the protocol's


@dataclass(frozen=True)
class Edit:
    """In `function`, the lines `old` become `new`; comments and blank lines do not count. declare: a cdef line for the function."""

    function: str
    old: str
    new: str
    declare: str = ""


# What a wait that takes no time to give up would do 64 times over: look at the generation. Once is the same to the search.
ALWAYS = [("_core.pyx", "    SPINS = 64 ", "    SPINS = 1  ")]

HELD_WAIT = """\
while (load_u64(&g.generation, memory_order_acquire) ^ (seen >> MM_PARITY_SHIFT)) & 1:
    sched_yield()"""
SWAP = """\
while <uint32_t>seen == 0 or not cas_u64(&g.pending, &seen, seen + 1, memory_order_acq_rel, memory_order_relaxed):
    if <uint32_t>seen == 0:
        sched_yield()
        seen = load_u64(&g.pending, memory_order_relaxed)
"""
CLAIM = """\
if not cas_u32(&c.mode, &idle, MM_PROXIED, memory_order_acquire, memory_order_relaxed):
    continue"""
PUT_BACK = "store_u32(&c.mode, MM_IDLE, memory_order_release)"
RECHECK = """\
if not waited_for(g):
    release(g)
    return opened"""
NOBODY = """\
if control_of(g).online == 0:
    pthread_mutex_unlock(&control_of(g).lock)
    return gen"""
DEPARTURE = "was = fetch_sub_u64(&g.pending, ONE_ONLINE + owes(c, gen), memory_order_acq_rel)"
GOAL = "goal = load_u64(&g.goal, memory_order_relaxed)"
LOCK = "pthread_mutex_lock(&control_of(g).lock)"
UNLOCK = "pthread_mutex_unlock(&control_of(g).lock)"
FENCE = "fence(memory_order_seq_cst)"
LOOK = f"if any_idle(g):\n    {LOCK}\n    credit_idle(g)\n    {UNLOCK}"
FLAG = "if load_u64(&g.idled, memory_order_relaxed) == 0:\n    store_u64(&g.idled, 1, memory_order_relaxed)"

# Of two that touch the same lines, the one that takes in more of them comes first.
EDITS: dict[str, list[Edit]] = {
    "one-short-on-demand": [Edit("mm_gen_begin", "target = gen + 2", "target = gen + 1")],
    "one-short-joining": [Edit("mm_gen_begin", "target = gen + 3", "target = gen + 2")],
    "no-idle-scan": [Edit("mm_gen_begin", "opened[0] = credit_idle(g)", "pass")],
    "no-credit-in-wake": [Edit("mm_gen_wake", LOOK, "pass")],
    "no-look-after-idle": [Edit("mm_gen_idle_enter", "if waited_for(g):\n    mm_gen_wake(g)", "pass")],
    "no-wake": [Edit("mm_gen_tick_wanted", "note(g, cpu, MM_TRACE_OPEN, gen + 1)\nreturn True", "return False")],
    "parity-from-generation": [
        Edit("hold", SWAP + HELD_WAIT,
             "before = load_u64(&g.generation, memory_order_acquire)\nseen = load_u64(&g.pending, memory_order_relaxed)\n" + SWAP
             + "while (load_u64(&g.generation, memory_order_acquire) ^ before) & 1:\n    sched_yield()",
             declare="cdef uint64_t before")],
    "hold-spins": [
        Edit("hold", SWAP + HELD_WAIT,
             "at_first = load_u64(&g.generation, memory_order_acquire)\nseen = load_u64(&g.pending, memory_order_relaxed)\n" + SWAP
             + "while (load_u64(&g.generation, memory_order_acquire) ^ at_first) & 1:\n    pass",
             declare="cdef uint64_t at_first")],
    "no-parity-wait": [Edit("hold", HELD_WAIT, "pass")],
    "counts-unswitched": [
        Edit("mm_gen_tick_wanted", "if switches == prev:\n    return impatient(g, c, gen)", "pass")],
    "wakes-nobody": [Edit("mm_gen_announce", "mm_gen_wake_sleepers(g)", "pass")],
    "last-cpu-unlocked": [
        Edit("mm_gen_offline", GOAL, f"{UNLOCK}\n{GOAL}"),
        Edit("mm_gen_offline", f"{UNLOCK}\nnote(g, cpu, MM_TRACE_OFFLINE, 0)", f"if was >> MM_ONLINE_SHIFT != 1:\n    {UNLOCK}")],
    "online-read-early": [
        Edit("mm_gen_begin", f"{LOCK}\ncontrol_of(g).nr_waits += 1",
             "if load_u64(&g.pending, memory_order_relaxed) >> MM_ONLINE_SHIFT == 0:\n"
             f"    return load_u64(&g.generation, memory_order_acquire)\n{LOCK}"),
        Edit("mm_gen_begin", NOBODY, "pass")],
    "two-proxies": [
        Edit("mm_gen_wake", f"{LOCK}\ncredit_idle(g)\n{UNLOCK}", "credit_idle(g)"),
        Edit("credit_idle", "if load_u32(&c.mode, memory_order_relaxed) != MM_IDLE:\n    continue",
             "if load_u32(&c.mode, memory_order_relaxed) < MM_IDLE:\n    continue"),
        Edit("credit_idle", CLAIM, "store_u32(&c.mode, MM_PROXIED, memory_order_relaxed)")],
    "no-claim": [Edit("credit_idle", CLAIM, "pass"), Edit("credit_idle", PUT_BACK, "pass")],
    "no-recheck": [Edit("credit_idle", RECHECK, "pass")],
    "credits-forever": [
        Edit("credit_idle", "if not waited_for(g) or not any_idle(g):\n    return opened", "if not any_idle(g):\n    return opened"),
        Edit("credit_idle", RECHECK, "pass")],
    "credits-once": [Edit("credit_idle", "opened = True", "return True")],
    "open-order": [
        Edit("open_next",
             "store_u64(&g.pending, (was ^ (<uint64_t>1 << MM_PARITY_SHIFT)) - 1 + online, memory_order_release)\n"
             "store_u64(&g.generation, gen + 1, memory_order_release)",
             "store_u64(&g.generation, gen + 1, memory_order_release)\n"
             "store_u64(&g.pending, (was ^ (<uint64_t>1 << MM_PARITY_SHIFT)) - 1 + online, memory_order_release)")],
    "online-without-hold": [
        Edit("bring_up", "hold(g)\nfetch_add_u64(&g.pending, ONE_ONLINE, memory_order_acq_rel)",
             "fetch_add_u64(&g.pending, ONE_ONLINE + 1, memory_order_acq_rel)")],
    "offline-without-hold": [
        Edit("mm_gen_offline", "hold(g)", "pass"),
        Edit("mm_gen_offline", "opened = release(g)",
             "opened = <uint32_t>was - owes(c, gen) == 0\nif opened:\n    open_next(g, gen, was - ONE_ONLINE - owes(c, gen) + 1)")],
    "offline-keeps-debt": [Edit("mm_gen_offline", DEPARTURE, DEPARTURE.replace("owes(c, gen)", "0"))],
    "offline-pays-twice": [Edit("mm_gen_offline", DEPARTURE, DEPARTURE.replace("owes(c, gen)", "1"))],
    "online-owes-nothing": [
        Edit("bring_up", "store_u64(&c.mm_switches[parity], nr - 1, memory_order_relaxed)",
             "store_u64(&c.mm_switches[parity], nr, memory_order_relaxed)")],
    "exit-past-proxy": [
        Edit("mm_gen_idle_exit", "sched_yield()\nseen = MM_IDLE", "store_u32(&c.mode, MM_RUNNING, memory_order_relaxed)\nbreak")],
    "callbacks-early": [
        Edit("take_due", "while limit and end[0] is not NULL and mm_gen_poll(g, end[0].cookie):\n    end = &end[0].next\n    limit -= 1",
             "while limit and end[0] is not NULL and mm_gen_poll(g, end[0].cookie - 1):\n    end = &end[0].next\n    limit -= 1")],
    "plain-compare": [Edit("mm_gen_poll", "return <int64_t>(load_u64(&g.generation, memory_order_acquire) - cookie) >= 0",
                           "return load_u64(&g.generation, memory_order_acquire) >= cookie")],
    "plain-debt": [
        Edit("owes", "return <int64_t>(load_u64(&c.mm_switches[gen & 1], memory_order_relaxed)\n"
             "                 - load_u64(&c.mm_switches[(gen & 1) ^ 1], memory_order_relaxed)) < 0",
             "return (load_u64(&c.mm_switches[gen & 1], memory_order_relaxed)\n"
             "        < load_u64(&c.mm_switches[(gen & 1) ^ 1], memory_order_relaxed))")],
    "plain-maximum": [Edit("mm_gen_begin", "if <int64_t>(target - goal) > 0:\n    store_u64(&g.goal, target, memory_order_release)",
                           "if target > goal:\n    store_u64(&g.goal, target, memory_order_release)")],
    "close-wakes-once": [
        Edit("mm_gen_close",
             "while load_u32(&control_of(g).sleepers, memory_order_acquire) or load_u32(&control_of(g).barriers, memory_order_acquire):\n"
             "    mm_gen_wake_sleepers(g)\n    mm_gen_wake_barriers(g)\n    sched_yield()",
             "mm_gen_wake_sleepers(g)\nmm_gen_wake_barriers(g)")],
    "defer-after-close": [
        Edit("mm_gen_defer", "if load_u32(&control.state, memory_order_relaxed) != MM_OPEN:\n"
             "    pthread_mutex_unlock(&control.queue_lock)\n    return -ESHUTDOWN", "pass")],
    "defer-tells-nobody": [Edit("mm_gen_defer", "if opened:\n    mm_gen_announce(g)", "pass")],
    "several-runners": [Edit("mm_gen_run_callbacks", "if exchange_u32(&control.running, 1, memory_order_acquire):\n    return 0", "pass")],
    "exit-gives-up": [Edit("mm_gen_idle_exit", "sched_yield()\nseen = MM_IDLE", "return -EINVAL")],
    "keeps-the-lock": [Edit("mm_gen_begin", NOBODY, NOBODY.replace("    pthread_mutex_unlock(&control_of(g).lock)\n", ""))],
    "idles-past-close": [
        Edit("mm_gen_idle_enter", "if not cas_u32(&c.mode, &running, MM_IDLE, memory_order_release, memory_order_relaxed):\n"
             "    return wrong_mode(g)", "store_u32(&c.mode, MM_IDLE, memory_order_release)")],
    "no-wait-fence": [Edit("mm_gen_begin", FENCE, "pass")],
    "no-scan-fence": [Edit("credit_idle", FENCE, "pass")],
    "no-wake-fence": [Edit("mm_gen_wake_sleepers", FENCE, "pass")],
    "no-idle-flag": [Edit("mm_gen_idle_enter", FLAG, "pass")],
    "idle-flag-late": [Edit("mm_gen_idle_enter", FLAG, "pass"), Edit("mm_gen_idle_enter", FENCE, f"{FENCE}\n{FLAG}")],
}
VARIANTS = list(EDITS)              # a variant's number is its place here, from 1


def code(line: str) -> str:
    """`line` without its comment."""
    return line.partition("#")[0].rstrip()


def body(lines: list[str], function: str) -> tuple[int, int]:
    """Where `function` is defined in `lines`: its first line, and that after its last."""
    starts = [n for n, line in enumerate(lines) if re.match(rf"cdef [^(=]*\b{function}\(.*:$", code(line))]
    if len(starts) != 1:
        raise LookupError(f"{function} is defined {len(starts)} times")
    end = starts[0] + 1
    while end < len(lines) and lines[end][:1] in ("", " "):
        end += 1
    return starts[0], end


def indent(line: str) -> int:
    """How far `line` is indented, in spaces."""
    return len(line) - len(line.lstrip())


def find(lines: list[str], begin: int, end: int, old: list[str]) -> tuple[int, int]:
    """Where the lines `old`, indented as one, stand in lines[begin:end]: the first and that after the last."""
    numbers = [n for n in range(begin, end) if code(lines[n])]
    found = []
    for i in range(len(numbers) - len(old) + 1):
        at = numbers[i:i + len(old)]
        first = indent(lines[at[0]])
        if [code(lines[n]) for n in at] == [" " * first + line for line in old]:
            found.append((at[0], at[-1] + 1))
    if len(found) != 1:
        raise LookupError(f"found {len(found)} times: {old}")
    return found[0]


def place(lines: list[str], edit: Edit) -> tuple[int, int, int, str]:
    """Where `edit` goes in `lines`: its function's first line, the first line and that after the last, and how far they are indented."""
    start, end = body(lines, edit.function)
    first, last = find(lines, start + 1, end, edit.old.splitlines())
    return start, first, last, " " * indent(lines[first])


def declared(edit: Edit) -> list[str]:
    """The line by which `edit` declares its variable, if it has one."""
    return [f"    {edit.declare}"] if edit.declare else []


def replaced(lines: list[str], edit: Edit) -> list[str]:
    """`lines` with `edit` in its place."""
    start, first, last, pad = place(lines, edit)
    new = [pad + line for line in edit.new.splitlines()]
    return [*lines[:start + 1], *declared(edit), *lines[start + 1:first], *new, *lines[last:]]


def chosen(lines: list[str], edit: Edit, variant: int) -> list[str]:
    """`lines` with both texts, and `edit`'s for when `variant` runs."""
    start, first, last, pad = place(lines, edit)
    old = [f"    {line}" if code(line) else "" for line in lines[first:last]]
    new = [f"{pad}    {line}" for line in edit.new.splitlines()]
    both = [f"{pad}if broken({variant}):", *new, f"{pad}else:", *old]
    return [*lines[:start + 1], *declared(edit), *lines[start + 1:first], *both, *lines[last:]]


def defines(text: str, function: str) -> bool:
    """Whether `function` is defined in `text`."""
    return re.search(rf"^cdef [^(=\n]*\b{function}\(", text, re.MULTILINE) is not None


def put_in(texts: dict[str, str], variant: str, put: Callable[[list[str], Edit], list[str]]) -> None:
    """Put each edit of `variant` into the file of `texts` that it is of, by put(lines, edit). LookupError where one does not fit."""
    for edit in EDITS[variant]:
        for name, text in texts.items():
            if name.endswith(".pyx") and defines(text, edit.function):
                try:
                    texts[name] = "\n".join(put(text.splitlines(), edit)) + "\n"
                except LookupError as error:
                    raise LookupError(f"the broken variant {variant!r} does not fit {name}: {error}") from None
                break
        else:
            raise LookupError(f"the broken variant {variant!r} is of {edit.function}, which is nowhere")


def source(package: Path) -> dict[str, str]:
    """The source's files, by name."""
    return {name: (package / name).read_text() for name in FILES}


def broken_source(package: Path, variant: str) -> dict[str, str]:
    """The source in `package` with `variant` alone, for who wants to build that: the files that differ, by name."""
    whole = source(package)
    texts = dict(whole)
    put_in(texts, variant, replaced)
    return {name: text for name, text in texts.items() if text != whole[name]}


def hooked(package: Path) -> dict[str, str]:
    """The checked copy's files, by name, of the source in `package`. LookupError where an edit does not fit the source (any more)."""
    texts = source(package)
    for name, old, new in ALWAYS:
        if texts[name].count(old) != 1:
            raise LookupError(f"{name}: {old!r} is there {texts[name].count(old)} times")
        texts[name] = texts[name].replace(old, new)
    for number, variant in enumerate(EDITS, 1):
        put_in(texts, variant, partial(chosen, variant=number))
    for name in texts:
        texts[name] = re.sub(rf"^from mmgen\.({'|'.join(HOOKED)}) cimport", r"from mmgen.check.\1 cimport", texts[name], flags=re.MULTILINE)
        if name.endswith(".pyx"):
            texts[name] = texts[name].replace("from libc.stdint", "from mmgen.check._steps cimport broken\nfrom libc.stdint", 1)
    return texts


def write(package: Path) -> None:
    """Write the checked copy into package/check, where its text has changed."""
    for name, text in hooked(package).items():
        path = package / "check" / name
        whole = f"# Made from mmgen/{name} by mmgen/check/hooked.py; not to be edited.\n{text}"
        if not path.exists() or path.read_text() != whole:
            path.write_text(whole)
