"""A tracefs made of plain files, a perf made of a few lines, and ring buffer pages, for the tests of `mmgen record`."""
import os
import struct
import sys
import textwrap

HEADER_PAGE = ("\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
               "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n")
COMMON = ("\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\tfield:unsigned char common_flags;\toffset:2;\tsize:1;"
          "\tsigned:0;\n\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
          "\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n")
# Of Linux 6.18 on x86-64: (the event's number, its fields as (declaration, offset, size, signed))
FORMATS = {
    "sched/sched_switch": (372, [("char prev_comm[16]", 8, 16, 0), ("pid_t prev_pid", 24, 4, 1), ("int prev_prio", 28, 4, 1),
                                 ("long prev_state", 32, 8, 1), ("char next_comm[16]", 40, 16, 0), ("pid_t next_pid", 56, 4, 1),
                                 ("int next_prio", 60, 4, 1)]),
    "sched/sched_process_fork": (366, [("__data_loc char[] parent_comm", 8, 4, 0), ("pid_t parent_pid", 12, 4, 1),
                                       ("__data_loc char[] child_comm", 16, 4, 0), ("pid_t child_pid", 20, 4, 1)]),
    "sched/sched_process_exec": (365, [("__data_loc char[] filename", 8, 4, 0), ("pid_t pid", 12, 4, 1), ("pid_t old_pid", 16, 4, 1)]),
    "sched/sched_process_exit": (369, [("char comm[16]", 8, 16, 0), ("pid_t pid", 24, 4, 1), ("int prio", 28, 4, 1),
                                       ("bool group_dead", 32, 1, 0)]),
    "mmap/exit_mmap": (696, [("struct mm_struct * mm", 8, 8, 0), ("struct maple_tree * mt", 16, 8, 0)]),
    "timer/hrtimer_expire_entry": (459, [("void * hrtimer", 8, 8, 0), ("s64 now", 16, 8, 1), ("void * function", 24, 8, 0)]),
}


def format_text(name):
    number, fields = FORMATS[name]
    lines = [f"\tfield:{what};\toffset:{at};\tsize:{size};\tsigned:{signed};\n" for what, at, size, signed in fields]
    return f"name: {name.partition('/')[2]}\nID: {number}\nformat:\n{COMMON}{''.join(lines)}\nprint fmt: whatever\n"


def payload(name, pid, *values):
    """The bytes of an event, as the kernel lays them out."""
    number, fields = FORMATS[name]
    out = bytearray(struct.pack("=HBBi", number, 0, 0, pid))
    strings = b""
    end = max(at + size for _, at, size, _ in fields)
    out += bytes(end - len(out))
    for (what, at, size, _), value in zip(fields, values, strict=True):
        if "__data_loc" in what:
            place = end + len(strings)
            strings += value + b"\0"
            out[at:at + 4] = struct.pack("=I", (len(value) + 1) << 16 | place)
        elif "[" in what:
            out[at:at + size] = value.ljust(size, b"\0")
        else:
            out[at:at + size] = (value % 2 ** (8 * size)).to_bytes(size, sys.byteorder)
    out += strings
    return bytes(out + bytes(-len(out) % 4))


def switch(prev, following, state=1, name=b"p"):
    return payload("sched/sched_switch", prev, name + str(prev).encode(), prev, 120, state, name + str(following).encode(), following, 120)


def word(kind, delta):
    return struct.pack("=I", delta << 5 | kind if sys.byteorder == "little" else kind << 27 | delta)


def event(delta, data, long=False):
    """An event `delta` ns after the one before, with its length in a word of its own or not."""
    if long or len(data) > 112:
        return word(0, delta) + struct.pack("=I", len(data) + 4) + data
    return word(len(data) // 4, delta) + data


def page(t_ns, *events, flags=0, lost=None):
    """A page of 4096 bytes whose time is `t_ns`."""
    body = b"".join(events)
    head = struct.pack("=QQ", t_ns, len(body) | flags)
    return (head + body + (b"" if lost is None else struct.pack("=Q", lost))).ljust(4096, b"\0")


def tracefs(root, pages):
    """A tree like tracefs, with an instance/ to be copied to each new instance; pages: by CPU, what its trace_pipe_raw gives."""
    (root / "instances").mkdir(parents=True)
    (root / "saved_tgids").write_text("7 5\n")
    model = root / "instance"
    for name in ("tracing_on", "trace_clock", "buffer_size_kb", "buffer_percent", "options/record-tgid"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("")
    (model / "events").mkdir()
    (model / "events" / "header_page").write_text(HEADER_PAGE)
    for name in FORMATS:
        folder = model / "events" / name
        folder.mkdir(parents=True)
        (folder / "format").write_text(format_text(name))
        (folder / "enable").write_text("")
        (folder / "filter").write_text("")
    for cpu, its in pages.items():
        folder = model / "per_cpu" / f"cpu{cpu}"
        folder.mkdir(parents=True)
        (folder / "trace_pipe_raw").write_bytes(b"".join(its))
        (folder / "stats").write_text(f"entries: 0\noverrun: {cpu}\ncommit overrun: 0\ndropped events: 2\nread events: 9\n")
    return root


PERF = textwrap.dedent("""\
    #!{python}
    import os, re, signal, sys
    with open({log!r}, "a") as log:
        print(sys.argv[1:], file=log)
    if sys.argv[1] == "script":
        print({script!r}, end="")
        sys.exit({status})
    for said, refused in {refuse!r}:
        if refused in sys.argv:
            sys.exit(said)
    reads, writes = map(int, next(a for a in sys.argv if a.startswith("--control=fd:"))[13:].split(","))
    done = False
    def end(number, frame):
        global done
        done = True
    signal.signal(signal.SIGINT, end)
    signal.siginterrupt(signal.SIGINT, True)
    out = open(sys.argv[sys.argv.index("-o") + 1], "w")
    while not done:
        try:
            import select
            if select.select([reads], [], [], 0.05)[0] and os.read(reads, 100):
                os.write(writes, b"ack\\n\\0")
        except OSError:
            break
    out.write("data")
    out.close()
    """)
SCRIPT = """\
           a     5/5     [000]    10.000000000: sched:sched_switch: prev_comm=a prev_pid=5 prev_prio=120 prev_state=S ==> \
next_comm=b next_pid=6 next_prio=120
         swapper     0/0     [001]    10.000500000: PERF_RECORD_LOST lost 3
           b     6/6     [000]    10.001000000: sched:sched_switch: prev_comm=b prev_pid=6 prev_prio=120 prev_state=S ==> \
next_comm=a next_pid=5 next_prio=120
"""


def perf(folder, script=SCRIPT, status=0, refuse=()):
    """A perf in `folder`; refuse: (what it says, the argument at which it does). Its calls are in folder/calls."""
    path = folder / "perf"
    path.write_text(PERF.format(python=sys.executable, log=str(folder / "calls"), script=script, status=status, refuse=list(refuse)))
    path.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
