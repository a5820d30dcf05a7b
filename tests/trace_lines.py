"""A recording's events as each tool prints them: what the readers' tests are made of."""
from typing import NamedTuple


class Switch(NamedTuple):
    """Who leaves and who comes, with their names as bytes."""

    t_ns: int
    cpu: int
    prev: int
    prev_name: bytes
    next: int
    next_name: bytes

    def who(self):
        return self.prev, self.prev_name

    def text(self, plugin=False):
        if plugin:
            return b"sched_switch", b"%s:%d [120] S ==> %s:%d [120]" % (self.prev_name, self.prev, self.next_name, self.next)
        return b"sched_switch", b"prev_comm=%s prev_pid=%d prev_prio=120 prev_state=S ==> next_comm=%s next_pid=%d next_prio=120" % (
            self.prev_name, self.prev, self.next_name, self.next)


class Other(NamedTuple):
    """Any other event of a thread."""

    t_ns: int
    cpu: int
    tid: int
    name: bytes
    event: bytes
    payload: bytes

    def who(self):
        return self.tid, self.name

    def text(self, plugin=False):
        return self.event, self.payload


def tick(t_ns, cpu, tid=0, name=b"swapper", function=b"tick_nohz_handler"):
    return Other(t_ns, cpu, tid, name, b"hrtimer_expire_entry", b"hrtimer=0xffff88 function=%s now=12345" % function)


def fork(t_ns, cpu, tid, child, name=b"sh", child_name=b"sh"):
    return Other(t_ns, cpu, tid, name, b"sched_process_fork", b"comm=%s pid=%d child_comm=%s child_pid=%d" % (name, tid, child_name, child))


def exec_(t_ns, cpu, tid, old=None, name=b"ls", filename=b"/bin/ls"):
    return Other(t_ns, cpu, tid, name, b"sched_process_exec", b"filename=%s pid=%d old_pid=%d" % (filename, tid, old or tid))


def exit_(t_ns, cpu, tid, name=b"ls", more=b" group_dead=true"):
    return Other(t_ns, cpu, tid, name, b"sched_process_exit", b"comm=%s pid=%d prio=120%s" % (name, tid, more))


def teardown(t_ns, cpu, tid, name=b"ls"):
    return Other(t_ns, cpu, tid, name, b"exit_mmap", b"mt_mod 0xffff888169b32c00, DESTROY")


SYSTEMS = {b"sched_switch": b"sched", b"hrtimer_expire_entry": b"timer", b"exit_mmap": b"mmap"}


def clock(t_ns, ns):
    return b"%d.%09d" % divmod(t_ns, 10**9) if ns else b"%d.%06d" % (t_ns // 10**9, t_ns % 10**9 // 1000)


def perf(event, tgids=None, ns=True, flags=b"", period=b"", plugin=False):
    """A line of perf script; tgids: by tid, None for none."""
    tid, name = event.who()
    word, payload = event.text(plugin)
    who = b"%7d" % tid if tgids is None else b"%7d/%-7d" % (tgids.get(tid, tid), tid)
    return b"%16s %s [%03d] %s%12s: %s%30s: %s" % (
        name, who, event.cpu, flags, clock(event.t_ns, ns), period, SYSTEMS.get(word, b"sched") + b":" + word, payload)


def ftrace(event, tgids=None, irqs=True, ns=False, width=0, plugin=False, prefix=b""):
    """A line of an ftrace buffer; with `width` of the event's name, of trace-cmd report."""
    tid, name = event.who()
    word, payload = event.text(plugin)
    tgid = b"" if tgids is None else b"(%7s) " % (b"%d" % tgids.get(tid, tid) if tid else b"-------")
    return b"%s%16s-%-7d %s[%03d] %s%12s: %-*s %s" % (
        prefix, b"<idle>" if tid == 0 else name, tid, tgid, event.cpu, b"d..2. " if irqs else b"", clock(event.t_ns, ns), width,
        word + b":", payload)


# By name: how it prints an event, whether it tells tgids, ns, and whether the names are told apart from blanks around them.
SHAPES = {
    "perf": (perf, True, True, True),
    "perf, us": (lambda e, t: perf(e, t, ns=False), True, False, True),
    "perf's default": (lambda e, t: perf(e, ns=False), False, False, True),
    "perf, flags and period": (lambda e, t: perf(e, t, flags=b"K d..2 ", period=b"  1 "), True, True, True),
    "perf, plugin": (lambda e, t: perf(e, t, plugin=True), True, True, False),
    "ftrace": (lambda e, t: ftrace(e), False, False, True),
    "ftrace, tgid": (ftrace, True, False, True),
    "ftrace, no irq-info": (lambda e, t: ftrace(e, irqs=False), False, False, True),
    "ftrace, tgid, no irq-info": (lambda e, t: ftrace(e, t, irqs=False), True, False, True),
    "trace-cmd": (lambda e, t: ftrace(e, irqs=False, width=21, plugin=True), False, False, False),
    "trace-cmd, instance": (lambda e, t: ftrace(e, irqs=False, width=21, plugin=True, prefix=b"own:     "), False, False, False),
    "trace-cmd -N -t": (lambda e, t: ftrace(e, irqs=False, ns=True, width=21), False, True, True),
}
