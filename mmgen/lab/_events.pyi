# _events has nothing for Python: its functions are for cimport (_events.pxd).
