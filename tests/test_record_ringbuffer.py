"""The ring buffer's pages, decoded: each form of an event and of a time, what is broken, and the text that perf script would write."""
import re
import struct

import pytest
from mmgen.lab.record import perftext
from mmgen.lab.record.ringbuffer import EVENTS, Event, Format, Page, decode, state
from recording import FORMATS, HEADER_PAGE, event, format_text, page, payload, switch, word

LAYOUT = Page.read(HEADER_PAGE)
KINDS = {FORMATS[name.replace(":", "/")][0]: name for name in EVENTS}
KNOWN = {number: Format(format_text(name.replace(":", "/")), EVENTS[name][0]) for number, name in KINDS.items()}
SWITCH = 372


def decoded(*pages, known=KNOWN):
    return list(decode(pages, 3, LAYOUT, known))


def test_header_page():
    assert Page(8, 16, 4096) == LAYOUT
    with pytest.raises(ValueError, match="'data'"):
        Page.read(HEADER_PAGE.partition("\tfield: char data")[0])


def test_an_event_has_the_time_of_the_one_before_and_its_own():
    got = decoded(page(1000, event(0, switch(1, 2)), event(70, switch(2, 0, 0))), page(5000, event(3, switch(0, 1))))
    assert [(e.t_ns, e.cpu, e.id, e.pid) for e in got] == [(1000, 3, SWITCH, 1), (1070, 3, SWITCH, 2), (5003, 3, SWITCH, 0)]
    assert got[0].values == (b"p1", 1, 120, 1, b"p2", 2, 120)


def test_times_that_27_bits_do_not_hold():
    extended = word(30, 5) + struct.pack("=I", 2)                       # 2 * 2**27 + 5 ns
    absolute = word(31, 9) + struct.pack("=I", 1 << 20)                 # all of them but the highest 5 bits
    high = 3 << 59
    got = decoded(page(high + 100, extended, event(1, switch(1, 2)), absolute, event(2, switch(2, 1))))
    assert [e.t_ns for e in got] == [high + 100 + 2 * 2**27 + 5 + 1, high + (1 << 47) + 9 + 2]


def test_padding_and_the_length_in_a_word_of_its_own():
    discarded = word(29, 8) + struct.pack("=I", 12) + bytes(8)
    got = decoded(page(0, discarded, event(1, switch(1, 2), long=True), event(1, switch(2, 1)), word(29, 0), b"\xff" * 8))
    assert [(e.t_ns, e.pid) for e in got] == [(9, 1), (10, 2)]


def test_other_kinds_are_passed_over():
    other = struct.pack("=HBBi", 9, 0, 0, 7) + bytes(8)
    assert [e.t_ns for e in decoded(page(0, event(5, other), event(5, switch(1, 2))))] == [10]


def test_what_was_lost_is_an_event():
    got = decoded(page(7, event(0, switch(1, 2)), flags=3 << 30, lost=12), page(8, event(0, switch(2, 1)), flags=1 << 31))
    assert got[0] == Event(7, 3, None, 0, (12,))
    assert got[2] == Event(8, 3, None, 0, (0,))


@pytest.mark.parametrize(("broken", "says"), [
    (page(0)[:-1], "has 4095 bytes, not 4096"),
    (struct.pack("=QQ", 0, 5000).ljust(4096, b"\0"), "says that it has 5000 bytes of events: there is room for 4080"),
    (page(0, word(20, 0), bytes(8)), "has an event of 80 bytes at 20: its events end at 28"),
    (page(0, word(0, 0), struct.pack("=I", 4), bytes(8)), "has an event of 0 bytes at 24"),
])
def test_what_is_no_page(broken, says):
    with pytest.raises(ValueError, match=re.escape(f"page of CPU 3 {says}")):
        decoded(broken)


def test_formats():
    with pytest.raises(ValueError, match="no ID"):
        Format("format:\n", ())
    with pytest.raises(ValueError, match="event 372 has no field nonesuch"):
        Format(format_text("sched/sched_switch"), ["nonesuch"])
    backwards = Format(format_text("sched/sched_switch"), ["next_pid", "prev_comm", "prev_pid"])
    assert backwards.unpack(switch(4, 5), 0) == (4, (5, b"p4", 4))
    fork = payload("sched/sched_process_fork", 4, b"parent", 4, b"the child", 9)
    assert KNOWN[366].unpack(b"12345678" + fork, 8) == (4, (b"parent", 4, b"the child", 9))


@pytest.mark.parametrize(("bits", "text"), [(0, "R"), (1, "S"), (2, "D"), (256, "R+"), (0x82, "D|I"), (257, "S+"), (0x80, "I")])
def test_state(bits, text):
    assert state(bits) == text


def test_text():
    first = decode([page(10**9, event(0, switch(5, 7, 256)), event(2000, payload("sched/sched_process_exec", 7, b"/usr/bin/awk", 7, 7)),
                         event(1000, payload("mmap/exit_mmap", 7, 1, 0xffff888169b30680)),
                         event(1, payload("sched/sched_process_exit", 7, b"awk", 7, 120, 1)))], 0, LAYOUT, KNOWN)
    second = decode([page(10**9 + 1, event(0, payload("timer/hrtimer_expire_entry", 0, 0xffff888627c1c6f8, 99, 0x1234)),
                          event(2, switch(0, 8, name=b"\xff\n")), event(1, payload("sched/sched_process_fork", 8, b"x", 8, b"y", 9)),
                          flags=3 << 30, lost=4)], 12, LAYOUT, KNOWN)
    assert "".join(perftext.lines([first, second], KINDS, {5: 5, 7: 5}, {5: "five"}, {0x1234: "tick_nohz_handler"})) == """\
              p5     5/5     [000]     1.000000000:         sched:sched_switch: prev_comm=p5 prev_pid=5 prev_prio=120 prev_state=R+ ==> \
next_comm=p7 next_pid=7 next_prio=120
         swapper     0/0     [012]     1.000000001: PERF_RECORD_LOST lost 4
         swapper     0/0     [012]     1.000000001: timer:hrtimer_expire_entry: hrtimer=0xffff888627c1c6f8 \
function=tick_nohz_handler now=99
         swapper     0/0     [012]     1.000000003:         sched:sched_switch: prev_comm=\ufffd?0 prev_pid=0 prev_prio=120 prev_state=S \
==> next_comm=\ufffd?8 next_pid=8 next_prio=120
             \ufffd?8     8       [012]     1.000000004:   sched:sched_process_fork: comm=x pid=8 child_comm=y child_pid=9
             awk     5/7     [000]     1.000002000:   sched:sched_process_exec: filename=/usr/bin/awk pid=7 old_pid=7
             awk     5/7     [000]     1.000003000:             mmap:exit_mmap: mt_mod 0xffff888169b30680, DESTROY
             awk     5/7     [000]     1.000003001:   sched:sched_process_exit: comm=awk pid=7 prio=120
"""
