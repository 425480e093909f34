"""Policies, samplers and learners; torch lives here."""

import os

# Left to itself torch's thread pool spins for milliseconds while it waits.  Beside any other busy process
# (environments, plugins, a browser) that costs far more than it saves: with one of two cores taken, training steps were
# measured 8 times slower.  Not to spin at all costs a wake-up in every small product, and sampling is made of these.
# 2000 rounds are between the two; docs/speed.md has the figures.  Both are read when torch is first imported, so they
# have to stand here; who sets a policy of their own gets that alone.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "passive"
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
