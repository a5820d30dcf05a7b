"""What the CPUs of the virtual machine do: tasks that switch, idle, exit, migrate; and who waits."""
from dataclasses import dataclass

from mmgen._arguments import real, shown, whole
from mmgen.lab.policies import one_of

KINDS = ("processes", "threads")
DISTRIBUTIONS = ("fixed", "exponential", "bursty")
US = ("switch_us", "pause_us", "idle_us", "kthread_us")


def interval(value: float, name: str, least: float, most: float) -> float:
    """`value` as a float. ValueError unless least <= value <= most, TypeError unless it is a number."""
    number = real(value, name)
    if not least <= number <= most:
        raise ValueError(f"{name}={shown(value)} is out of range: {least:g} to {most:g}")
    return number + 0.0                                 # -0.0 is 0.0: the same case is written the same way


@dataclass(frozen=True, kw_only=True)
class Load:
    """The workload of each CPU. ValueError for what is out of range, TypeError for what is no number."""

    kind: str = "processes"
    """"processes": each CPU has `mms` of its own, and runs them in turn; "threads": the CPUs share `mms`, a thread of one on each CPU"""
    mms: int = 2
    """1 to 64; threads: to 65,536"""
    switch_us: float | None = 100.0
    """how long a task runs, in us, 0.001 to 10**9; what the policy costs comes on top. None: until its CPU's next tick"""
    distribution: str = "exponential"
    """of all lengths: "fixed"; "exponential" with these means; "bursty": exponential, and some tasks last pause_us, others switch_us"""
    burst: float = 10.0
    """bursty: tasks between two long ones, at the mean; 1 to 10**6"""
    pause_us: float = 10_000.0
    idle: float = 0.0
    """the share of the switches from a task that go to the idle task; from there it is always a task with an mm; 0 to 1"""
    idle_us: float = 1000.0
    kthread: float = 0.0
    """the share that go to a kernel thread; idle + kthread at most 1"""
    kthread_us: float = 1000.0
    """where tasks last until a tick, so do kernel threads: the first one from then on"""
    exits: float = 0.0
    """the share of the switches from a process at which it exits, and another is forked in its place; 0 to 1"""
    migrate: float = 0.0
    """the share of the switches to a process that change it for one of another CPU first, which is not just running; 0 to 1"""
    waiters: int = 0
    """mms that no CPU uses exit, so many at a time (0 to 10**6): the next when one is freed, as who waits again and again"""
    waiter_us: float = 0.0
    """and so long after; where an mm is freed as it exits, at least a tick after. 0 to 10**9"""
    hotplug_per_s: float = 0.0
    """how often a CPU drawn at random is unplugged, if another is left; 0 to 10**6"""
    unplug_us: float = 1000.0
    """from when it leaves its tasks until it is gone"""
    offline_us: float = 10_000.0
    """from then until it is back"""

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        one_of(self.kind, "kind", KINDS)
        one_of(self.distribution, "distribution", DISTRIBUTIONS)
        put("mms", whole(self.mms, "mms", 1, 64 if self.kind == "processes" else 65_536))
        put("waiters", whole(self.waiters, "waiters", 0, 10**6))
        for name in US:
            if name != "switch_us" or self.switch_us is not None:
                put(name, interval(getattr(self, name), name, 0.001, 1e9))
        for name in ("unplug_us", "offline_us", "waiter_us"):
            put(name, interval(getattr(self, name), name, 0, 1e9))
        for name in ("idle", "kthread", "exits", "migrate"):
            put(name, interval(getattr(self, name), name, 0, 1))
        put("burst", interval(self.burst, "burst", 1, 1e6))
        put("hotplug_per_s", interval(self.hotplug_per_s, "hotplug_per_s", 0, 1e6))
        if self.idle + self.kthread > 1:
            raise ValueError(f"idle={self.idle:g} and kthread={self.kthread:g} are together more than 1")
        if self.kind == "threads" and (self.exits or self.migrate):
            raise ValueError("exits and migrate go with kind='processes': threads end, and move, without an mm that does")

    def plan(self) -> dict[str, float]:
        """For the virtual machine."""
        threads = self.kind == "threads"
        return {
            "slots": 1 if threads else self.mms, "pools": self.mms if threads else 0,
            "distribution": DISTRIBUTIONS.index(self.distribution), "at_ticks": self.switch_us is None,
            "switch_ns": 1e3 * (self.switch_us or 0.001), "pause_ns": 1e3 * self.pause_us, "idle_ns": 1e3 * self.idle_us,
            "kthread_ns": 1e3 * self.kthread_us, "idle": self.idle, "kthread": self.kthread, "exits": self.exits, "migrate": self.migrate,
            "burst": self.burst, "waiters": self.waiters, "life_ns": round(1e3 * self.waiter_us),
            "hotplug_ns": max(round(1e9 / self.hotplug_per_s), 1) if self.hotplug_per_s > 1e-9 else 0,
            "unplug_ns": round(1e3 * self.unplug_us), "offline_ns": round(1e3 * self.offline_us),
        }
