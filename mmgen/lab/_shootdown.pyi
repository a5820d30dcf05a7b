# _shootdown has nothing for Python: its functions are for cimport (_shootdown.pxd).
