# _timeline has nothing for Python: its functions are for cimport (_timeline.pxd).
