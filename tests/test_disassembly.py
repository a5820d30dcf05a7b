"""What the built extensions execute on the hot path, read from their machine code."""
import platform
import re
import shutil
import subprocess

import mmgen._capi
import mmgen._core
import pytest

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="reads x86-64 instructions"),
    pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump"),
]


def instructions(module, function):
    """[(address, mnemonic with prefix, operands)] of `function` in `module`."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", module.__file__], capture_output=True, text=True, check=True).stdout
    body = re.search(rf"<__pyx_f_5mmgen_5_core_{function}>:\n((?:.+\n)+)", text)
    if body is None:
        pytest.skip(f"{function} is not to be found: the extension is stripped, or not an ordinary build")
    if "__tsan" in text or "__asan" in text or "__ubsan" in text or "gcov" in text:
        pytest.skip("a build under a sanitizer or for coverage")
    found = []
    for line in body[1].splitlines():
        address, code = line.split(":", 1)
        target = re.search(r"<([^>+]+)>", code)
        words = code.split("#")[0].split("<")[0].split()
        take = 2 if words[0] in ("lock", "rep", "repz", "bnd", "notrack", "cs", "data16") and len(words) > 1 else 1
        operands = " ".join(words[take:]) + (f" <{target[1]}>" if words[0] == "call" and target else "")
        found.append((int(address, 16), " ".join(words[:take]), operands))
    while found and re.match(r"nop|data16|cs |xchg %ax,%ax|int3", " ".join(found[-1][1:])):
        found.pop()
    return found


def is_store(mnemonic, operands):
    """Whether the instruction writes memory: its destination, the last operand, is memory, and it does not merely compare."""
    if re.match(r"cmp|test|bt$|btq?$|lea|nop|j|call|prefetch", mnemonic.removeprefix("lock ")):
        return False
    return mnemonic.startswith(("push", "call")) or (bool(re.search(r"\([^()]*\)$", operands)) and not re.match(r"(mul|div|pop)", mnemonic))


def is_shared(operands):
    return "(%rsp)" not in operands


def test_a_switch_is_a_plain_increment():
    code = instructions(mmgen._capi, "mm_switch")
    assert not [c for c in code if c[1].startswith(("lock", "xchg", "mfence", "call"))]
    assert len([c for c in code if is_store(*c[1:])]) == 1
    assert not [c for c in code if c[1].startswith("j")]


def test_a_tick_with_nobody_waiting_makes_no_store():
    code = instructions(mmgen._capi, "mm_gen_tick")
    # Up to the jump to mm_gen_tick_wanted, which is the other way out.
    early = [c for c in code if not (c[1] == "jmp" and "*" in c[2])]
    assert any(c[1] == "ret" for c in early)
    assert not [c for c in early if is_store(*c[1:]) or c[1].startswith(("lock", "xchg", "mfence"))]
    assert len([c for c in early if c[1].startswith("mov") and "(" in c[2]]) <= 3       # generation, goal, continuous


def test_a_counted_tick_makes_one_locked_operation_on_shared_memory():
    code = instructions(mmgen._core, "mm_gen_tick_wanted")
    locked = [c for c in code if c[1].startswith("lock") or (c[1].startswith("xchg") and "(" in c[2])]
    assert len([c for c in locked if is_shared(c[2])]) == 1
    fences = [c for c in locked if not is_shared(c[2])] + [c for c in code if c[1] == "mfence"]
    assert len(fences) == 1
    # What it calls, it calls only where events are kept.
    assert not [c for c in code if c[1].startswith("call") and "mm_trace_write" not in c[2]]
    # The fence comes before the decrement, and both after the store of the snapshot.
    decrement = next(c for c in locked if is_shared(c[2]))
    assert fences[0][0] < decrement[0]


def test_the_reading_can_fail():
    assert is_store("mov", "%rax,(%rdi)")
    assert is_store("lock xadd", "%rdi,(%rsi)")
    assert is_store("movq", "$0x1,0x40(%rdi)")
    assert is_store("push", "%rbx")
    assert not is_store("mov", "0x40(%rdi),%rdx")
    assert not is_store("cmp", "%rax,(%rdi)")
    assert not is_store("lea", "(%rdi,%rsi,1),%rax")
    # wake, unlike a switch, calls; were a switch to, its test would see it.
    assert [c for c in instructions(mmgen._core, "mm_gen_wake") if c[1].startswith("call") or "jmp" in c[1]]
