# _account has nothing for Python: its functions are for cimport (_account.pxd).
