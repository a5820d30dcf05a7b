"""Recorded machines: what perf, ftrace and trace-cmd print, read into columns, and whose mm it was."""
from mmgen.lab.traces.columns import Kind, Task, Trace
from mmgen.lab.traces.read import read
from mmgen.lab.traces.ticks import add_ticks
from mmgen.lab.traces.tsv import write
from mmgen.mmtrace import TraceError

__all__ = ["Kind", "Task", "Trace", "TraceError", "add_ticks", "read", "write"]
