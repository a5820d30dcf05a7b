"""Threads that become CPUs as they come, and checked domains."""
import threading

import mmgen
import pytest
from mmgen import Mode


def in_thread(call):
    """What `call` returns, or raises, in a thread of its own, which has ended then."""
    result = []

    def run():
        try:
            result.append(call())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


def test_a_context_takes_a_slot_and_gives_it_back():
    gen = mmgen.MmGen(2, online=0)
    with gen.register() as first, gen.register() as second:
        assert {first.index, second.index} == {0, 1}
        assert gen.nr_online == 2
        assert gen.threads[first.index] is threading.current_thread()
        with pytest.raises(mmgen.FullError, match="its 2 CPUs are all online; MmGen"):
            gen.register()
        first.quiescent()
    assert gen.nr_online == 0
    assert gen.threads == {}
    first.leave()
    with pytest.raises(RuntimeError, match="which is OFFLINE"):
        first.switch()


def test_a_thread_that_ends_leaves():
    gen = mmgen.MmGen(1, online=0)
    kept = []

    def run():
        kept.append(gen.register())
        kept[0].quiescent()
        return gen.nr_online

    assert in_thread(run) == 1
    assert gen.nr_online == 0
    assert kept[0].mode is Mode.OFFLINE
    assert gen.wait(30)


def test_a_domain_grows_if_asked():
    gen = mmgen.MmGen(1, online=0, max_cpus=3)
    cpus = [gen.register() for _ in range(3)]
    assert [cpu.index for cpu in cpus] == [0, 1, 2]
    assert gen.cpus == 3
    with pytest.raises(mmgen.FullError):
        gen.register()
    cookie = gen.start_poll()
    for _ in range(2):
        assert not gen.poll(cookie)
        for cpu in cpus:
            cpu.quiescent()
    assert gen.poll(cookie)
    with pytest.raises(ValueError, match="max_cpus=1 is out of range: 2 to"):
        mmgen.MmGen(2, max_cpus=1)


def test_threads_come_and_go_while_others_wait():
    gen = mmgen.MmGen(1, online=0, max_cpus=8)
    stop = threading.Event()
    errors = []

    def reader():
        try:
            while not stop.is_set():
                with gen.register() as cpu:
                    for _ in range(20):
                        cpu.quiescent()
        except BaseException as error:
            errors.append(error)

    readers = [threading.Thread(target=reader) for _ in range(6)]
    for thread in readers:
        thread.start()
    for _ in range(200):
        assert gen.wait(30)
    stop.set()
    for thread in readers:
        thread.join(30)
    assert errors == []
    assert gen.nr_online == 0
    assert gen.cpus <= 6


def test_a_closed_domain_takes_nobody():
    gen = mmgen.MmGen(1, online=0)
    with gen.register() as cpu:
        gen.close()
        with pytest.raises(mmgen.ClosedError):
            cpu.quiescent()
    with pytest.raises(mmgen.ClosedError):
        gen.register()


def test_idle_is_a_context():
    gen = mmgen.MmGen(1)
    cpu = gen.cpu(0)
    with cpu.idle():
        assert cpu.mode is Mode.IDLE
        assert gen.wait(30)
        with pytest.raises(RuntimeError, match="which is IDLE"), cpu.idle():
            pass
    assert cpu.mode is Mode.RUNNING
    with pytest.raises(LookupError), cpu.idle():
        raise LookupError
    assert cpu.mode is Mode.RUNNING


@pytest.mark.parametrize("call", ["switch", "tick", "quiescent", "offline", "idle_enter"])
def test_checked_a_second_thread_is_refused(call):
    gen = mmgen.MmGen(2, checked=True)
    cpu = gen.cpu(0)
    cpu.switch()
    error = in_thread(getattr(cpu, call))
    assert isinstance(error, mmgen.WrongThreadError)
    assert f"{call}() on CPU 0" in str(error)
    assert isinstance(in_thread(lambda: gen.switch(0)), mmgen.WrongThreadError)
    assert in_thread(gen.cpu(1).switch) is None
    assert (cpu.switches, cpu.mode) == (1, Mode.RUNNING)


def test_checked_a_slot_that_went_offline_is_free():
    gen = mmgen.MmGen(1, checked=True)
    cpu = gen.cpu(0)
    cpu.switch()
    cpu.offline()

    def other():
        cpu.online()
        cpu.switch()
        cpu.offline()

    assert in_thread(other) is None
    cpu.online()
    cpu.switch()


def test_checked_who_is_a_cpu_does_not_wait_for_itself():
    gen = mmgen.MmGen(1, checked=True)
    cpu = gen.cpu(0)
    cpu.switch()
    for wait in (gen.wait, lambda: gen.wait_for(gen.start_poll()), gen.barrier):
        with pytest.raises(mmgen.WrongThreadError, match="this thread is CPU 0, which runs"):
            wait()
    assert cpu.wait(30)
    with cpu.idle():
        assert gen.wait(30)


def test_unchecked_says_nothing():
    gen = mmgen.MmGen(1)
    gen.cpu(0).switch()
    assert in_thread(gen.cpu(0).switch) is None
    assert not gen.checked


def test_domains_are_independent():
    one, other = mmgen.MmGen(1), mmgen.MmGen(1)
    cookie = one.start_poll()
    for _ in range(2):
        other.cpu(0).quiescent()
    assert not one.poll(cookie)
    with pytest.raises(ValueError, match="is another domain's"):
        other.poll(cookie)
    other.close()
    for _ in range(2):
        one.cpu(0).quiescent()
    assert one.poll(cookie)


def test_cookies_order_across_a_wrap():
    gen = mmgen.MmGen(1, first_generation=2**64 - 2)
    first = gen.start_poll()
    same = gen.start_poll()
    gen.cpu(0).quiescent()
    later = gen.start_poll()
    assert first.generation == 0
    again = gen.start_poll()
    assert first < same < later
    assert later > same >= first
    assert sorted([later, same, first])[0] is first
    assert first != later
    assert (again == later, hash(again) == hash(later), again <= later) == (True, True, True)
    assert first != 0
    assert "generation 0" in repr(first)
    with pytest.raises(TypeError):
        assert first < mmgen.MmGen(1).start_poll()
    with pytest.raises(TypeError, match="start_poll"):
        mmgen.Cookie()
