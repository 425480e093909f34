"""Array annotations of ``mmrl_agents`` are checked at every call, in tests only; no test reaches for the hub."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook("mmrl_agents", "typecheck.checked")
settings.register_profile("mmrl", deadline=None)  # a busy machine is no failure
settings.load_profile("mmrl")
