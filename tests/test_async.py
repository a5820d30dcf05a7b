"""Awaits: thousands at once, without a thread each."""
import asyncio
import threading

import mmgen
import pytest


def test_thousands_of_awaits_share_a_thread():
    async def main(gen):
        awaits = [asyncio.ensure_future(gen.wait_async()) for _ in range(5000)]
        await asyncio.sleep(0)
        mmgen_threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("mmgen")}
        assert mmgen_threads <= {"mmgen-cpu0", "mmgen-cpu1", "mmgen-reclaimer"}
        return await asyncio.gather(*awaits)

    with mmgen.Machine(2, hz=1000) as machine:
        assert asyncio.run(main(machine.gen)) == [True] * 5000
        assert machine.gen.wait_latency.count == 5000


def test_an_await_ends_neither_early_nor_never():
    async def main(gen):
        waiting = asyncio.ensure_future(gen.wait_async())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        for _ in range(2):
            for cpu in (0, 1):
                gen.cpu(cpu).quiescent()
        assert await waiting

    with mmgen.MmGen(2) as gen:
        asyncio.run(main(gen))


def test_an_await_runs_out_of_time():
    with mmgen.MmGen(1) as gen:
        assert asyncio.run(gen.wait_async(0.01)) is False
        with pytest.raises(ValueError, match="timeout=-1"):
            asyncio.run(gen.wait_async(-1))


def test_an_await_can_be_cancelled():
    async def main(gen):
        waits = [asyncio.ensure_future(gen.wait_async()) for _ in range(100)]
        await asyncio.sleep(0.01)
        for wait in waits[::2]:
            wait.cancel()
        for _ in range(3):                      # all but the first join a generation under way
            gen.cpu(0).quiescent()
        return await asyncio.gather(*waits, return_exceptions=True)

    with mmgen.MmGen(1) as gen:
        ends = asyncio.run(main(gen))
    assert all(isinstance(end, asyncio.CancelledError) for end in ends[::2])
    assert ends[1::2] == [True] * 50


def test_a_closed_domain_ends_its_awaits():
    async def main(gen):
        waits = [asyncio.ensure_future(gen.wait_async()) for _ in range(10)]
        await asyncio.sleep(0.01)
        await asyncio.get_running_loop().run_in_executor(None, gen.close)
        return await asyncio.gather(*waits, return_exceptions=True)

    ends = asyncio.run(main(mmgen.MmGen(1)))
    assert [type(end) for end in ends] == [mmgen.ClosedError] * 10


def test_a_loop_that_is_gone_harms_nobody():
    gen = mmgen.MmGen(1)
    assert asyncio.run(gen.wait_async(0)) is False
    for _ in range(2):
        gen.cpu(0).quiescent()
    assert gen.barrier(30)
    assert gen.close() == []


def test_without_a_thread_run_callbacks_ends_them():
    async def main(gen):
        waiting = asyncio.ensure_future(gen.wait_async())
        await asyncio.sleep(0)
        for _ in range(2):
            gen.cpu(0).quiescent()
        assert gen.run_callbacks() == 1
        return await waiting

    with mmgen.MmGen(1, reclaimer=False) as gen:
        assert asyncio.run(main(gen)) is True
