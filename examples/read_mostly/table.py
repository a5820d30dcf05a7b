"""A table that is read all the time and changed now and then: its readers take no lock and touch no shared count.

A version of the table is memory that readers use through its bare address, as an extension would. A new version is published by one
store; the old one is retired: it stays alive until every reader has been quiescent.
"""
import ctypes
import threading

import mmgen


class Table:
    """`size` numbers; read(address, i) by any reader between two quiescent states, replace() by an updater."""

    def __init__(self, gen, numbers):
        self._gen = gen
        self._update = threading.Lock()                             # updaters only
        self._version = (ctypes.c_uint64 * len(numbers))(*numbers)
        self.address = ctypes.addressof(self._version)              # what readers load

    def replace(self, numbers):
        """Publish another version."""
        new = (ctypes.c_uint64 * len(numbers))(*numbers)
        with self._update:
            old, self._version = self._version, new
            self.address = ctypes.addressof(new)                    # from here on nobody finds the old one
            self._gen.retire(old)                                   # but who found it before may still look


def read(address, i):
    """Number i of the version at `address`."""
    return ctypes.c_uint64.from_address(address + 8 * i).value


def main():
    gen = mmgen.MmGen(1, online=0, max_cpus=64, max_pending=1000)   # readers register as they come
    table = Table(gen, [0] * 1000)
    done = threading.Event()
    seen = []

    def reader():
        with gen.register() as cpu:
            while not done.is_set():
                address = table.address                             # one version, for as long as this section lasts
                first, last = read(address, 0), read(address, 999)
                assert first == last, (first, last)                 # it was not freed under our eyes
                seen.append(last)
                cpu.quiescent()

    readers = [threading.Thread(target=reader) for _ in range(4)]
    for thread in readers:
        thread.start()
    for version in range(1, 501):
        table.replace([version] * 1000)
    assert gen.barrier(30)
    done.set()
    for thread in readers:
        thread.join()
    print(f"{gen.stats().run} versions retired; {len(seen)} reads, none of a version that was gone")
    gen.close()


if __name__ == "__main__":
    main()
