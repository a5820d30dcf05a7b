"""That the loops are what they say: their machine code, and that who is said to wait does."""
import ctypes
import platform
import re
import shutil
import subprocess
import threading

import compiled
import pytest

# Of each innermost loop: at least so many loads and stores, just so many locked operations and fences, and whether it may call.
LOOPS = [
    # library, loop, loads, stores, locked and fences, calls
    ("batches", "switch_run", 1, 1, 0, False),
    ("batches", "tick_run", 2, 0, 0, True),                 # the rest of a tick, which is not reached
    ("bare", "increment_run", 1, 1, 0, False),
    ("bare", "refcount_run", 0, 0, 2, False),
    ("bare", "fence_and_decrement_run", 0, 0, 2, False),
    ("qsbr", "quiescent_state_run", 1, 0, 3, True),         # mfences and a wake, where a grace period has begun
    ("qsbr", "quiescent_state_call_run", 0, 0, 0, True),
    ("memb", "section_run", 3, 2, 0, True),
    ("mb", "section_run", 3, 2, 2, True),
    ("ck", "section_run", 1, 2, 1, False),
    ("table", "table_switch_run", 2, 0, 0, True),
]


def code(path, name):
    """[(address, text)] of the function whose name ends in `name`."""
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True).stdout
    body = re.search(rf"<(?:__pyx_f_7batches_)?{name}>:\n((?:.+\n)+)", text)[1]
    lines = [line.split(":", 1) for line in body.splitlines()]
    return [(int(address, 16), " ".join(rest.split("#")[0].split())) for address, rest in lines]


@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("objdump"), reason="reads x86-64 code with objdump")
@pytest.mark.parametrize(("library", "name", "loads", "stores", "locked", "calls"), LOOPS, ids=[f"{row[0]}-{row[1]}" for row in LOOPS])
def test_what_is_in_the_loop(ours, peer, build, library, name, loads, stores, locked, calls):
    path = ours[library].__file__ if library in ours else compiled.table(build)._name if library == "table" else peer(library)._name
    lines = code(path, name)
    jumps = [(address, int(found[1], 16)) for address, text in lines if (found := re.match(r"j\w+ ([0-9a-f]+)", text))]
    # The widest way round: where the loop has rare branches laid out behind it, they are in it.
    back = [(to, address) for address, to in jumps if to <= address]
    assert back, "it does not go round"
    begin, end = min(to for to, _ in back), max(address for _, address in back)
    inside = [text for address, text in lines if begin <= address <= end]
    atomics = [text for text in inside if re.match(r"lock|mfence|xchg.*\(", text)]
    assert len(atomics) >= locked if calls else len(atomics) == locked
    plain = [text for text in inside if text not in atomics and "(" in text and not re.match(r"lea|nop|cs nop|data16", text)]
    assert sum(bool(re.search(r",[^,(]*\([^)]*\)$", text)) and not text.startswith(("cmp", "test")) for text in plain) >= stores
    assert sum(bool(re.match(r"(cmp|test|mov\w*|add|sub|call|and|or)\b.*\(", text)) for text in plain) >= loads
    assert calls or not any(text.startswith("call") for text in inside)
    assert not any("__tls_get_addr" in text for text in inside)


def function(address, *types):
    return ctypes.CFUNCTYPE(None, *types)(address)


def test_qsbr_waits_for_its_reader(peer):
    """A registered reader that is not quiescent keeps synchronize_rcu from returning; registering is what the loop's enter does."""
    qsbr = peer("qsbr")
    reader, updater = compiled.loop(qsbr, "quiescent_state"), compiled.loop(qsbr, "synchronize")
    registered, quiescent, gone = threading.Event(), threading.Event(), threading.Event()
    online = []

    def read():
        function(reader.enter, ctypes.c_void_p)(None)
        online.append(qsbr.is_online())
        registered.set()
        quiescent.wait()
        while not gone.is_set():
            function(reader.run, ctypes.c_void_p, ctypes.c_uint64)(None, 1000)
        function(reader.leave, ctypes.c_void_p)(None)

    def update():
        function(updater.run, ctypes.c_void_p, ctypes.c_uint64)(None, 1)
        gone.set()

    threads = [threading.Thread(target=target, daemon=True) for target in (read, update)]
    threads[0].start()
    registered.wait()
    threads[1].start()
    assert not gone.wait(0.2)
    quiescent.set()
    assert gone.wait(60)
    for thread in threads:
        thread.join()
    assert online == [1]
