"""httpx without what nobody here uses: its command line, which would read a terminal's drawing in (4 MB and a seventh of a second
of every run), and HTTP/2 (1.4 MB more).

Both are extras that may be absent; for the moment of the import they are found absent. Who asks for HTTP/2 later gets it: httpcore
looks for it again then.
"""

from __future__ import annotations

import sys

_UNUSED = ("httpx._main", "h2")

_hidden = [name for name in _UNUSED if name not in sys.modules] if "httpx" not in sys.modules else []
for _name in _hidden:
    sys.modules[_name] = None  # pyright: ignore[reportArgumentType]  # None: an import finds nothing there
try:
    import httpx as httpx

    httpx.HTTPTransport(verify=False).close()  # the first one loads what sends
finally:
    for _name in _hidden:
        del sys.modules[_name]
