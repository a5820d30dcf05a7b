# _masks has nothing for Python: its functions are for cimport (_masks.pxd).
