# Nothing here is for Python: the search cimports it.
