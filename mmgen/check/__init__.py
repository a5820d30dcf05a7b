"""Every interleaving of the protocol's compiled source, within bounds.

The source of mmgen._core (and of _lifetime and _callbacks) is compiled a second time, with every atomic access, the control lock and the
futex hooked (hooked.py, _steps.pyx); threads are coroutines that stop before each access; a search runs them in every order and looks
at every state (_world.pyx, _search.pyx). docs/proof.md says what that proves.

    from mmgen.check import Bounds, check
    print(check(Bounds(cpus=2, ops=4)))             # ... closed
    print(check(broken="no-recheck").script)        # how that goes wrong, a step a line
"""
from mmgen.check.bounds import CALLS, Bounds
from mmgen.check.broken import BROKEN, Broken
from mmgen.check.search import Result, as_test, check, replay, short

__all__ = ["BROKEN", "CALLS", "Bounds", "Broken", "Result", "as_test", "check", "replay", "short"]
