import subprocess
import sys

import numpy as np

GIB = 2**30
ASK = "from mmrl_agents.peak_memory import peak_bytes; print(peak_bytes())"


def test_what_the_starting_process_held_is_not_counted() -> None:
    held = np.ones(GIB, dtype=np.uint8)
    said = subprocess.run([sys.executable, "-c", ASK], check=True, capture_output=True, text=True).stdout
    assert 0 < int(said) < held.nbytes
