"""The rows of the comparison: what is set against what, which ratio is to be reached, and what was found."""
from dataclasses import dataclass
from statistics import median, quantiles

ROUNDS = 501            # of a pair, and as many before, not counted: this machine's loops get faster for the first 100 ms of their kind


@dataclass(frozen=True)
class Row:
    """ours / theirs, or theirs / ours where that is to be large."""

    ours: str
    theirs: str = ""
    most: float | None = None
    """the ratio ours / theirs to reach"""
    least: float | None = None
    """the ratio theirs / ours to reach"""
    speed: bool = False
    """the figures are rates, and ours is to be the larger"""
    short: str = ""
    """for a plot"""


QSBR = "liburcu qsbr quiescent_state, inline"
UPDATER = "an updater looping on the other core"
READER = "on the other core a reader that does nothing else"

ROWS = {
    # switch and tick
    "switch_increment": Row("switch, inlined", "bare per-CPU increment", most=1.1, short="switch / increment"),
    "switch_qsbr": Row("switch, inlined", QSBR, most=0.7, short="switch / qsbr, alone"),
    "switch_qsbr_updater": Row(f"switch, inlined, and every 1,000th a tick; {UPDATER}", f"{QSBR}; {UPDATER}",
                               most=0.7, short="switch / qsbr, with an updater"),
    "refcount_switch": Row("switch, inlined", "refcount pair (lock inc, lock dec)", least=8, short="refcount / switch, alone"),
    "refcount_switch_contended": Row("switch, inlined, on both cores", "refcount pair, on both cores",
                                     least=30, short="refcount / switch, contended"),
    "tick_qsbr": Row("tick, nobody waits", QSBR, most=1.5, short="tick / qsbr"),
    "counted": Row("switch and tick that counts, 1/64 of them opening", "full fence and locked decrement",
                   most=1.5, short="counted tick / fence, decrement"),
    "table_switch": Row("switch through the function table", "switch, inlined", most=6, short="function table / inlined"),
    "batch": Row("switch in a batch, gen.run()", "switch, inlined", most=4, short="batch / inlined"),
    "python_switch": Row("cpu.switch() from Python", "empty method of an extension class", most=1.15, short="cpu.switch() / empty method"),
    "two_threads": Row("two threads' cpu.switch() on free-threaded Python", "one thread's",
                       least=1.7, speed=True, short="two threads / one"),
    # waits
    "wait_qsbr": Row("wait, nogil; on the other core a CPU that switches and ticks", f"liburcu qsbr synchronize_rcu; {READER}",
                     most=0.7, short="wait / qsbr synchronize_rcu"),
    "wake_futex": Row("from the last tick to the waiter's running", "bare futex wake", most=1.1, short="wake / bare futex"),
    "ticking": Row("wait, two CPUs that tick as often as the kernel, at once, and switch every 100 us", "membarrier global",
                   most=1.1, short="wait / membarrier global"),
    "ticking_p99": Row("p99 of that wait", "3 ticks and a bare futex wake", most=1, short="its p99 / 3 ticks"),
    # for comparison only
    "empty": Row("empty loop"),
    "quiescent_qsbr": Row("switch and tick", QSBR),
    "quiescent_qsbr_updater": Row(f"switch and tick; {UPDATER}", f"{QSBR}; {UPDATER}"),
    "switch_qsbr_call": Row("switch, inlined", "liburcu qsbr quiescent_state, called in the library"),
    "switch_memb": Row("switch, inlined", "liburcu memb read_lock and unlock, inline"),
    "switch_mb": Row("switch, inlined", "liburcu mb read_lock and unlock, inline"),
    "switch_ck": Row("switch, inlined", "ck_epoch begin and end, inline"),
    "table_tick": Row("tick through the function table, nobody waits", "tick, inlined"),
    "python_increment": Row("method of an extension class that increments a word", "empty method of an extension class"),
    "header_switch": Row("switch, inlined by mmgen.h", "switch, inlined by Cython"),
    "entrance_batch": Row("switch in gen.run(ops), from Python", "switch, inlined by Cython"),
    "entrance_numba": Row("switch in a loop of numba's, by gen.ctypes", "switch, inlined by Cython"),
    "entrance_handle": Row("cpu.switch() from Python, the loop included", "switch, inlined by Cython"),
    "entrance_domain": Row("gen.switch(0) from Python, the loop included", "switch, inlined by Cython"),
    "entrance_ctypes": Row("switch by gen.ctypes from Python, the loop included", "switch, inlined by Cython"),
    "idle": Row("idle_enter and idle_exit, nobody waits"),
    "grace": Row("start_poll and both generations of a domain of one CPU"),
    "wait_memb": Row("wait, as above", "liburcu memb synchronize_rcu; on the other core sections without pause"),
    "wait_mb": Row("wait, as above", "liburcu mb synchronize_rcu; on the other core sections without pause"),
    "wait_ck": Row("wait, as above", "ck_epoch_synchronize; on the other core sections without pause"),
    "wait_expedited": Row("wait, as above", "membarrier private-expedited: an IPI to the other core"),
    "wait_unmap": Row("wait, as above", "munmap of a page; a thread of the process on the other core"),
    "unmap_alone": Row("munmap of a page; no other thread runs"),
    "ticking_apart": Row("wait, as that with the kernel, but the two CPUs tick by turns", "membarrier global"),
    "ticking_spinning": Row("wait, as that with the kernel, but switches without pause: no core is free to wake on", "membarrier global"),
    "event": Row("gen.wait(); another Python thread loops quiescent()", "Event.wait(); the same thread sets it"),
    "condition": Row("gen.wait(), as above", "Condition.wait(); the same thread notifies it"),
    "barrier": Row("gen.wait(), as above", "Barrier.wait(); the same thread comes to it"),
    "transfer": Row("a cache line to the other core and back"),
    "contended_decrement": Row("locked decrement, on both cores"),
}


def scaled(value, speed=False):
    """`value`, of ns or of operations a second, as text with a unit."""
    if speed:
        return f"{value / 1e6:.1f} M/s"
    for limit, factor, unit, digits in ((100, 1, "ns", 2), (10_000, 1, "ns", 0), (1e7, 1e3, "us", 1), (float("inf"), 1e6, "ms", 1)):
        if value < limit:
            return f"{value / factor:,.{digits}f} {unit}"
    return ""


class Rows:
    """What one session found."""

    def __init__(self, host, load):
        self.host = host
        self.load = load
        self.found = {}
        self.more = {}                          # growth and the like, by name
        self.notes = []

    def add(self, key, ours, theirs=None, *, n=1):
        """The samples of a row, ns per operation of each round. For pytest-benchmark's extra_info."""
        row = ROWS[key]
        result = {"ours": median(ours), "theirs": None, "rounds": len(ours), "operations": n}
        if theirs:
            ratios = sorted((b / a if row.least and not row.speed else a / b) for a, b in zip(ours, theirs, strict=True))
            low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
            result |= {"theirs": median(theirs), "ratio": median(ratios), "quartiles": [low, high]}
            if row.most or row.least:
                result |= {"target": f"<= {row.most:g}" if row.most else f">= {row.least:g}",
                           "reached": result["ratio"] <= row.most if row.most else result["ratio"] >= row.least}
        if n == 1 and len(ours) >= 100:
            result["p99"] = [quantiles(samples, n=100, method="inclusive")[98] for samples in (ours, theirs)]
        self.found[key] = result
        return {"row": key, "ns_per_op": round(result["ours"], 3),
                **({"theirs_ns_per_op": round(result["theirs"], 3), "ratio": round(result["ratio"], 3)} if theirs else {})}

    def table(self):
        """Lines: those with a target first."""
        for wanted in (True, False):
            for key, row in ROWS.items():
                if key in self.found and ("target" in self.found[key]) == wanted:
                    yield from self.line(row, self.found[key])
            yield ""

    def line(self, row, result):
        """One row, two lines where there is a peer."""
        yield f"{row.ours:<84} {scaled(result['ours'], row.speed):>10}"
        if result["theirs"] is not None:
            low, high = result["quartiles"]
            verdict = f"  to reach {result['target']}: {'reached' if result['reached'] else 'MISSED'}" if "target" in result else ""
            over = "inverse" if row.least and not row.speed else "ratio"
            yield (f"  {'/ ' + row.theirs:<82} {scaled(result['theirs'], row.speed):>10}  {over} {result['ratio']:.2f} "
                   f"({low:.2f} to {high:.2f}){verdict}")

    def as_json(self, load):
        """All of it, but for when and how."""
        return {"host": self.host, "load": [self.load, load],
                "rows": {key: self.found[key] for key in ROWS if key in self.found}, **self.more}
