"""Writing that a kill cannot tear: a temporary name in the same folder, fsync, rename, fsync of the folder.

A name that starts with a point and ends in ``.<pid>.tmp`` (unfinished, or about to be deleted) or ``.<pid>.old``
(moved aside for its successor) is ours; :func:`recover` tidies up after the process that left it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

_OURS = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<kind>tmp|old)")


def _beside(path: Path, kind: str) -> Path:
    return path.parent / f".{path.name}.{os.getpid()}.{kind}"


def fsync_dir(path: Path) -> None:
    """Make renames and new names in the folder ``path`` last."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _fsync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        fsync_dir(Path(folder))


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``: afterwards the file is whole, whatever happens in between it is old or whole.

    Raises:
        OSError: if it cannot be written; ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, "tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def atomic_dir(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder and give it the name ``path``, in the place of a folder that has it already.

    A crash between the two renames leaves the old folder under its ``.old`` name; :func:`recover` brings it back.

    Raises:
        OSError: if it cannot be written, and whatever ``write`` raises; ``path`` is then as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _beside(path, "tmp"), _beside(path, "old")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        write(temporary)
        _fsync_tree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
    os.rename(temporary, path)
    fsync_dir(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a folder so that no half of it is ever seen under its name."""
    doomed = _beside(path, "tmp")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # a dead process had the same number (usual in containers): this one writes nothing right now
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def recover(folder: Path) -> None:
    """Tidy up what dead processes left in ``folder``: bring back what lost its name, delete the unfinished.

    What belongs to a live process is left alone: it may be writing at this moment.
    """
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir()):
        match = _OURS.fullmatch(entry.name)
        if match is None or _alive(int(match["pid"])):
            continue
        if match["kind"] == "old" and not (folder / match["name"]).exists():
            os.rename(entry, folder / match["name"])
        elif entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def is_ours(name: str) -> bool:
    """Whether ``name`` is a temporary name of this module."""
    return _OURS.fullmatch(name) is not None
