# _refcount has nothing for Python: its functions are for cimport (_refcount.pxd).
