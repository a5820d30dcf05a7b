"""The sketch of 2 December 2020, transliterated with its own types and starting values. For the tests, never for the package."""

U64 = 2**64 - 1
U32 = 2**32 - 1


def s64(x):
    """`x` as a (long)."""
    return (x & U64) - ((x & U64) >> 63 << 64)


def s32(x):
    """`x` as the int in an atomic_t."""
    return (x & U32) - ((x & U32) >> 31 << 32)


class Sketch:
    """mm_foo and the per-CPU words; `complete` and `owing` mend the start (faults 2 and 3), so that the other faults can be seen."""

    def __init__(self, online, complete=-1, owing=False, generation=0):
        self.online = set(range(online))
        self.nr_mm_switches = [0] * 16
        self.mm_switches = [[0] * 16, [0] * 16]
        if owing:
            self.mm_switches[generation & 1] = [U64] * 16
        self.generation = generation & U64
        self.complete = complete

    def switch(self, cpu):
        self.nr_mm_switches[cpu] = (self.nr_mm_switches[cpu] + 1) & U64

    def tick(self, cpu):
        switches = self.nr_mm_switches[cpu]
        idx = self.generation & 1
        prev = self.mm_switches[idx ^ 1][cpu]
        curr = self.mm_switches[idx][cpu]
        if prev == switches:
            return False
        self.mm_switches[idx][cpu] = switches
        if s64(curr - prev) < 0 and self.dec_and_test():
            self.complete = len(self.online)
            self.generation = (self.generation + 1) & U64
            return True
        return False

    def dec_and_test(self):
        self.complete = s32(self.complete - 1)
        return self.complete == 0

    def wait(self):
        """Begin mm_gen_wait(): what says whether it has returned."""
        gen = self.generation & U32                     # unsigned int gen
        return lambda: (self.generation - gen) & U64 > 1
