"""``python -m mmrl``: the command line, for launchers that start a module."""

from mmrl.cli.main import main

if __name__ == "__main__":
    main()
