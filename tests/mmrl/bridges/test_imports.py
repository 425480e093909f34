"""The bridges stand without what they lead to."""

import subprocess
import sys


def test_a_bridge_imports_neither_its_trainer_nor_torch():
    heavy = ("torch", "transformers", "datasets", "trl", "swift", "verl")
    code = ("import mmrl.bridges.trl, mmrl.bridges.swift, mmrl.bridges.verl, sys; "
            f"print([m for m in {heavy} if m in sys.modules])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
