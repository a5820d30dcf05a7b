# _lifetime has nothing for Python: its functions are for cimport (_lifetime.pxd), and for C through _capi.
