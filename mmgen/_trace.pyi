# _trace has nothing for Python: its functions are for cimport (_trace.pxd).
