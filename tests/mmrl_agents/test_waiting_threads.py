from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAID = "import os, mmrl_agents; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(("own", "said"), [
    ({}, "passive 2000"),
    ({"GOMP_SPINCOUNT": "0"}, "passive 0"),
    ({"OMP_WAIT_POLICY": "active"}, "active None"),
])  # fmt: skip
def test_threads_spin_for_a_moment_unless_told_otherwise(own: dict[str, str], said: str) -> None:
    plain = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    told = subprocess.check_output([sys.executable, "-c", SAID], env={**plain, **own}, text=True)
    assert told.strip() == said
