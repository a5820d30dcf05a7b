"""A virtual machine whose random numbers are written down: for cases that are worked out by hand."""
import ctypes

from mmgen.lab._virtual import Virtual
from mmgen.lab.simulate import result

YES, NO = 0.0, 0.99                     # below every share, above every share that is not 1

next_u64 = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)
next_u32 = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)
next_double = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p)


class Bitgen(ctypes.Structure):
    """numpy's bitgen_t."""

    _fields_ = [("state", ctypes.c_void_p), ("next_uint64", next_u64), ("next_uint32", next_u32), ("next_double", next_double),
                ("next_raw", next_u64)]


class Script:
    """A bit generator that draws what it is given, and then NO for ever."""

    def __init__(self, *draws):
        self.left = list(draws)
        self.bitgen = Bitgen(None, next_u64(lambda _: 0), next_u32(lambda _: 0), next_double(self.draw), next_u64(lambda _: 0))
        self.name = b"BitGenerator"
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        self.capsule = new(ctypes.addressof(self.bitgen), self.name, None)

    def draw(self, _):
        return self.left.pop(0) if self.left else NO


def play(case, *draws):
    """The result of `case`, whose random numbers are `draws`, all of which it must want."""
    script = Script(*draws)
    machine = Virtual(case.cpus, 10**9 // case.hz, round(case.seconds * 1e9), case.costs.plan(), case.load.plan(), case.policy.plan(),
                      script, True, True)
    while not machine.go_on():
        pass
    assert script.left == []
    return result(case, machine, 0.0)
