# _wheel has nothing for Python: its functions are for cimport (_wheel.pxd).
