# _callbacks has nothing for Python: its functions are for cimport (_callbacks.pxd), and for C through _capi.
