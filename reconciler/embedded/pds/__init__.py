"""A real PDS on this machine: what `demo --with-pds` and the tests run on.

`installation()` gets Node and the PDS's packages, once, into the user's cache; `running(installed)` is a server with an empty world and a
PLC directory of its own, both on 127.0.0.1 alone. It ends with the process that started it, however that ends, and its folder with it.
"""

from reconciler.embedded.pds.installation import Installation, UnavailableError, installation
from reconciler.embedded.pds.server import Account, Pds, running

__all__ = ["Account", "Installation", "Pds", "UnavailableError", "installation", "running"]
