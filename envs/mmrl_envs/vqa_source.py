"""Where the rows of a VQA table come from: a file, a folder of images, or a Hugging Face dataset.

Comes in: one of the three.  Goes out: numbered rows, and the folder that their image paths start at.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmrl.errors import BadInput
from mmrl_envs.rows import Numbered, read_dataset, read_file
from mmrl_envs.tables import stamp

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Files that say more of a folder's images than where they lie; a row's ``file_name`` is the image's path."""
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class Source:
    """Where rows come from; exactly one of ``path``, ``folder`` and ``dataset`` is given.

    Attributes:
        path: a JSONL, JSON, CSV or Parquet file.
        folder: a folder of images with ``metadata.jsonl`` (or ``.csv``, ``.parquet``), or with a sub-folder a label.
        dataset: a Hugging Face dataset's name or folder.
        split: the split of ``dataset``.
    """

    path: Path | None = None
    folder: Path | None = None
    dataset: str | None = None
    split: str = "train"

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.path, self.folder, self.dataset)) != 1:
            raise BadInput("environment 'vqa' needs one of path (a file of questions), folder (of images) and dataset "
                           "(a Hugging Face name)")  # fmt: skip

    @property
    def name(self) -> str:
        """What errors and sample ids call it."""
        return f"{self.dataset}[{self.split}]" if self.dataset is not None else str(self.path or self.folder)

    @property
    def key(self) -> Hashable:
        """Names the rows and the state of their files."""
        return self, stamp(self.path), stamp(self.folder)

    @property
    def root(self) -> Path:
        """The folder that image paths start at and may not leave."""
        if self.path is not None:
            return self.path.parent
        if self.folder is not None:
            return self.folder
        if Path(self.dataset or "").is_dir():
            return Path(self.dataset or "")
        from datasets import config

        return Path(config.HF_CACHE_HOME)  # what the library itself fetched lies in its cache

    def read(self) -> Sequence[Numbered]:
        """Read the rows.

        Raises:
            BadInput: if they cannot be read, or there are none.
        """
        if self.path is not None:
            return read_file(self.path)
        if self.folder is not None:
            return read_folder(self.folder)
        return read_dataset(self.dataset or "", self.split)


def read_folder(folder: Path) -> list[Numbered]:
    """Rows of a folder of images: those of its metadata file, or ``image`` (a path) and ``label`` (its sub-folder).

    Raises:
        BadInput: if there is no such folder, no image in it, or an image without metadata lies in no sub-folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder")
    described = next((folder / name for name in METADATA if (folder / name).is_file()), None)
    if described is not None:
        return read_file(described)
    found = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise BadInput(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))})")
    if loose := next((path for path in found if len(path.parts) == 1), None):
        raise BadInput(f"{folder}: {loose} has no answer: put it into a sub-folder with the answer's name, or write a "
                       f"{METADATA[0]} with the columns file_name, question and answer")  # fmt: skip
    return list(enumerate(({"image": path.as_posix(), "label": path.parent.name} for path in found), 1))
