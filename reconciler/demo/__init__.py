"""`reconciler demo`: a small damaged world on this machine, and a walk through it with the real commands.

`world.py` makes the world out of `world/DATABASE/*.sql` and `specs/`, `repo.py` is where its records are, `walk.py` runs commands and
checks what they did, `reports.py` has one function a field report. A new report is three files (`world/X/world.sql`,
`world/X/damage.sql`, `specs/X.yaml`) and a function in `REPORTS`.
Invariants: nothing outside of the given folder and the servers started here is touched, whatever the environment of the caller
says; a step that did not do what it says is an error; everything started here ends with the process.
"""
