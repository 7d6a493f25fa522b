"""httpx without its command line, which would read a terminal's drawing in: 4 MB and a seventh of a second of every run.

`httpx._main` may be absent, where its extra is not installed; here it is found absent for the moment of the import.
"""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"

_missing = "httpx" not in sys.modules
if _missing:
    sys.modules[_COMMAND_LINE] = None  # pyright: ignore[reportArgumentType]  # None: an import finds nothing there
try:
    import httpx as httpx
finally:
    if _missing:
        del sys.modules[_COMMAND_LINE]
