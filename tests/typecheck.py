"""The type checker that ``tests/conftest.py`` puts on every function of ``mmrl_agents``: an int passes for a float."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
