# _core has nothing for Python: its functions are for cimport (_core.pxd), and for C through _capi.
