"""Array annotations of ``mmrl_agents`` are checked at every call, in tests only."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for the hub

from jaxtyping import install_import_hook

install_import_hook("mmrl_agents", "typecheck.checked")
