"""A table that is read all the time and changed now and then: its readers take no lock and touch no shared count.

A version of the table is memory that readers use through its bare address, as an extension would. A new version is published by one
store; the old one is retired: it stays alive until every reader has been quiescent.
"""
import ctypes
import threading

import mmgen

SIZE, VERSIONS = 1000, 500


class Table:
    """SIZE numbers; readers load `address`, and use it until their next quiescent state."""

    def __init__(self, gen):
        self._gen, self._version = gen, None
        self.replace(0)

    def replace(self, number):
        """Publish another version, full of `number`. For one updater at a time."""
        old, self._version = self._version, (ctypes.c_uint64 * SIZE)(*[number] * SIZE)
        self.address = ctypes.addressof(self._version)          # from here on nobody finds the one before
        if old is not None:
            self._gen.retire(old)                               # but who found it before may still look


def reader(gen, table, done):
    """Read until `done` is set; each turn of the loop is one section."""
    with gen.register() as cpu:
        while not done.is_set():
            numbers = (ctypes.c_uint64 * SIZE).from_address(table.address)
            assert numbers[0] == numbers[SIZE - 1], "a version was freed while it was read"
            cpu.quiescent()


def main():
    gen = mmgen.MmGen(1, online=0, max_cpus=64, max_pending=100)    # readers register as they come
    table, done = Table(gen), threading.Event()
    readers = [threading.Thread(target=reader, args=(gen, table, done)) for _ in range(4)]
    for thread in readers:
        thread.start()
    for number in range(1, VERSIONS + 1):
        table.replace(number)
    assert gen.barrier(30)
    done.set()
    for thread in readers:
        thread.join()
    print(f"{gen.stats().run} versions retired, none of them while it was read")
    gen.close()


if __name__ == "__main__":
    main()
