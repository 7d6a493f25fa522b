"""Calls of functions, servers and commands, for rows that wait for them.

`bucket.py` keeps the rate, `http.py` and `command.py` call, `run.py` calls for batches of rows until they are done. Nothing here knows
a database: the rows are behind `run.Rows`.
"""
