"""The specification of every kernel, in Python: written to be read, used as oracle and where nothing is compiled."""
