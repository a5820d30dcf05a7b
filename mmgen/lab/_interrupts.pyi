# _interrupts has nothing for Python: its functions are for cimport (_interrupts.pxd).
