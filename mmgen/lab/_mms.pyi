# _mms has nothing for Python: its functions are for cimport (_mms.pxd).
