"""``python -m mmrl``: the command line, for launchers that start a module."""

import sys

from mmrl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
