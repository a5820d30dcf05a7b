"""This machine, recorded: who switched to whom on each CPU, through tracefs or perf, with everything undone that it took."""
from mmgen.lab.record.rights import UnusableError

__all__ = ["UnusableError"]
