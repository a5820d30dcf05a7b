# _generation has nothing for Python: its functions are for cimport (_generation.pxd).
