"""Refuses a sub-interpreter, before an extension is loaded: the first interpreter that loads one keeps it, and Python 3.11 lets any."""
import contextlib
import importlib


def refuse_any_but_the_main() -> None:
    """ImportError in a sub-interpreter."""
    for name in ("_interpreters", "_xxsubinterpreters"):            # since 3.13, before
        with contextlib.suppress(ModuleNotFoundError):
            interpreters = importlib.import_module(name)
            if interpreters.get_current() != interpreters.get_main():
                raise ImportError("mmgen works in the main interpreter only: its callbacks find back into Python by the thread alone")
            return


refuse_any_but_the_main()
