"""wait_async(): thousands of awaits at once, timeouts, cancellation, and domains or loops that end before."""
import asyncio
import threading
import time

import mmgen
import pytest
from mmgen import Busy, Calls, Machine
from test_callbacks import rounds, until


def test_thousands_of_awaits_share_a_thread():
    most = 0

    async def count():
        nonlocal most
        while True:
            most = max(most, threading.active_count())
            await asyncio.sleep(0.001)

    async def main(gen):
        counting = asyncio.create_task(count())
        before = threading.active_count()
        over = await asyncio.gather(*(gen.wait_async() for _ in range(5000)))
        counting.cancel()
        assert over == [True] * 5000
        assert most <= before + 1

    with Machine(2, workload=Busy(20)) as machine:
        asyncio.run(main(machine.gen))
        stats = machine.gen.stats()
    assert stats.wait_latency.count == stats.deferred == stats.run == 5000
    assert stats.generation < 5000


def test_an_await_is_not_over_early():
    async def main():
        gen = mmgen.MmGen(2)
        task = asyncio.create_task(gen.wait_async())
        await asyncio.sleep(0.05)
        gen.switch(0)
        gen.tick(0)
        await asyncio.sleep(0.05)
        assert not task.done()
        rounds(gen)
        assert await asyncio.wait_for(task, 10) is True
        gen.close()

    asyncio.run(main())


def test_awaits_end_in_their_order_after_the_callbacks_before_them():
    ends = []

    async def wait(gen, i):
        await gen.wait_async()
        ends.append(i)

    async def main():
        gen = mmgen.MmGen(1)
        tasks = []
        for i in range(0, 20, 2):
            gen.defer(ends.append, i)
            tasks.append(asyncio.create_task(wait(gen, i + 1)))
            await asyncio.sleep(0)
        rounds(gen)
        await asyncio.gather(*tasks)
        gen.close()

    asyncio.run(main())
    assert [i for i in ends if i % 2] == list(range(1, 20, 2))
    assert all(ends.index(i) < ends.index(i + 1) for i in range(0, 20, 2))


@pytest.mark.parametrize("timeout", [0, 0.01, 0.1])
def test_an_await_that_runs_out_of_time(timeout):
    async def main():
        gen = mmgen.MmGen(1)
        begin = time.monotonic()
        assert await gen.wait_async(timeout) is False
        assert time.monotonic() - begin >= timeout
        assert gen.wait_latency.count == 0
        rounds(gen)
        assert gen.barrier(10)
        gen.close()

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_a_timeout_that_is_none(timeout):
    gen = mmgen.MmGen(1)
    with pytest.raises(ValueError, match="timeout=.* is out of range"):
        asyncio.run(gen.wait_async(timeout))
    assert gen.nr_deferred == 0


@pytest.mark.parametrize("timeout", [None, 60, float("inf"), 1e300])
def test_a_timeout_that_does_not_run_out(timeout):
    async def main():
        gen = mmgen.MmGen(1)
        gen.cpu(0).idle_enter()
        assert await gen.wait_async(timeout) is True
        gen.close()

    asyncio.run(main())


def test_an_outer_timeout_is_not_taken_for_ones_own():
    async def main():
        gen = mmgen.MmGen(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await gen.wait_async(60)
        gen.close()

    asyncio.run(main())


def test_cancelled_awaits_disturb_nobody():
    async def main():
        gen = mmgen.MmGen(1)
        tasks = [asyncio.create_task(gen.wait_async()) for _ in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ends = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)
        rounds(gen)
        for i, end in enumerate(await ends):
            assert end is True if i % 2 else isinstance(end, asyncio.CancelledError)
        until(lambda: gen.nr_run == 100)                # the last is counted after it has run
        gen.close()

    asyncio.run(main())


def test_a_domain_that_closes_ends_its_awaits(caplog):
    async def main():
        gen = mmgen.MmGen(1)
        tasks = [asyncio.create_task(gen.wait_async()) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert gen.close() == []                        # awaits are told, not returned
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError)
        assert {type(end) for end in ends[1:]} == {mmgen.ClosedError}
        with pytest.raises(mmgen.ClosedError):
            await gen.wait_async()

    asyncio.run(main())
    assert caplog.text == ""


def test_a_machine_that_dies_ends_the_awaits_under_way():
    die = threading.Event()

    def fn(cpu):
        if die.wait(0.001):
            raise ZeroDivisionError

    async def main(gen):
        task = asyncio.create_task(gen.wait_async())
        await asyncio.sleep(0)
        die.set()
        with pytest.raises(mmgen.ClosedError, match="the thread of CPU . died: ZeroDivisionError"):
            await asyncio.wait_for(task, 30)

    with pytest.raises(mmgen.MachineError, match="ZeroDivisionError"), Machine(1, workload=Calls(fn)) as machine:
        asyncio.run(main(machine.gen))


@pytest.mark.parametrize("threaded", [True, False])
def test_a_loop_that_ends_before(threaded):
    gen = mmgen.MmGen(1, reclaimer=threaded)

    async def main():
        asyncio.create_task(gen.wait_async())           # noqa: RUF006 - to be cancelled at the end of the loop
        await asyncio.sleep(0)

    asyncio.run(main())
    assert gen.nr_deferred == 1
    rounds(gen)
    assert gen.barrier(10)
    asyncio.run(main())
    assert gen.close() == []


def test_a_domain_without_a_reclaimer():
    async def main():
        gen = mmgen.MmGen(2, reclaimer=False)
        task = asyncio.create_task(gen.wait_async())
        await asyncio.sleep(0)
        rounds(gen)
        await asyncio.sleep(0.01)
        assert not task.done()
        assert gen.run_callbacks() == 1
        assert await task is True
        assert gen._reclaimer.thread is None

    asyncio.run(main())


def test_awaits_need_no_room():
    async def main():
        gen = mmgen.MmGen(1, max_pending=1, when_full="raise")
        tasks = [asyncio.create_task(gen.wait_async()) for _ in range(10)]
        await asyncio.sleep(0)
        rounds(gen, 4)
        assert await asyncio.gather(*tasks) == [True] * 10
        gen.close()

    asyncio.run(main())


def test_two_loops_in_two_threads():
    ends = []

    async def main(gen):
        ends.extend(await asyncio.gather(*(gen.wait_async() for _ in range(100))))

    with Machine(2, hz=None, workload=Busy(0)) as machine:
        threads = [threading.Thread(target=asyncio.run, args=(main(machine.gen),)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert ends == [True] * 200
