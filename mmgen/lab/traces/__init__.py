"""Recorded machines: what perf, ftrace and trace-cmd print, read into columns, and whose mm it was."""
from mmgen.lab.traces.columns import Kind, Task, Trace

__all__ = ["Kind", "Task", "Trace"]
