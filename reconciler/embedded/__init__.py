"""A local PostgreSQL: what `postgres: embedded`, the demo and the tests run on.

In comes a folder, out comes a running server: `start(folder, durable=True)` or, for data nobody keeps, `cluster()`.
Both are context managers; `server.dsn("name")` is how to connect, as superuser, without a password.

- It uses PostgreSQL's own programs and nothing else: no driver, no package's API. Where they come from: `find()`.
- A server lives as long as it has a user. Processes that start the same folder share one server; it ends with the
  last of them, also when that one is killed. Nothing is ever left for the user to stop.
- It listens on 127.0.0.1 alone, on a port of its own, and trusts whoever connects: everyone with an account on this
  machine. It is for data that may be seen and changed by them.
- It never runs as root: root starts it as nobody, and where nobody cannot come, its data is under /var/lib/reconciler
  and the folder holds a link to it.
- An unfinished start leaves nothing that the next start trips over.
"""

from reconciler.embedded.binaries import Binaries, find, installed, wheel
from reconciler.embedded.server import Server, cluster, start

__all__ = ["Binaries", "Server", "cluster", "find", "installed", "start", "wheel"]
