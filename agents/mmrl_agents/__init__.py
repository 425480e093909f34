"""Policies, samplers and learners; torch lives here."""

import os

# torch's thread pool spins while it waits.  Beside any other busy process (environments, plugins, a browser) that
# costs far more than it saves: with one of two cores taken, training steps were measured 8 times slower.  The
# setting is read when torch is first imported, so it has to stand here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
