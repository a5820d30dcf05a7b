"""Work that no signal interrupts, as numpy's on tens of millions of numbers is, done so that Ctrl-C need not wait for it."""
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LOOK_S = 0.02                           # between two looks at signals, where the wait itself is not interrupted


def aside(work: Callable[[], T]) -> T:
    """What `work` returns, or raises. The main thread has another do it, and on Ctrl-C leaves it at that: it must change nothing."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    made: list[T] = []
    failed: list[BaseException] = []
    over = threading.Event()

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:
            failed.append(error)
        finally:
            over.set()

    threading.Thread(target=run, name="mmgen-aside", daemon=True).start()
    while not over.wait(LOOK_S):
        pass
    if failed:
        raise failed.pop()
    return made.pop()
