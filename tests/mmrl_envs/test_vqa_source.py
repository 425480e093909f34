from pathlib import Path

import datasets
import pytest

from mmrl.errors import BadInput
from mmrl_envs.vqa_source import Source, read_folder


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_the_name_of_the_sub_folder_is_the_label(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.JPG", "cat/a.png", "cat/deep/c.webp", "cat/notes.txt")
    assert read_folder(tmp_path) == [
        (1, {"image": "cat/a.png", "label": "cat"}), (2, {"image": "cat/deep/c.webp", "label": "deep"}),
        (3, {"image": "dog/b.JPG", "label": "dog"}),
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [
    ("metadata.jsonl", '{"file_name": "a.png", "question": "What?"}\n'),
    ("metadata.csv", "file_name,question\na.png,What?\n"),
])  # fmt: skip
def test_a_metadata_file_goes_before_the_folders(tmp_path: Path, name: str, text: str) -> None:
    touch(tmp_path, "a.png", "cat/b.png")
    (tmp_path / name).write_text(text)
    assert read_folder(tmp_path) == [(1, {"file_name": "a.png", "question": "What?"})]


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none: no such folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(BadInput, match=r"holds no images \(.bmp, .gif, "):
        read_folder(tmp_path)
    touch(tmp_path, "cat/a.png", "b.png")
    with pytest.raises(BadInput, match=r"b.png has no answer: put it into a sub-folder .* metadata.jsonl"):
        read_folder(tmp_path)


def test_exactly_one_source() -> None:
    for arguments in ((), (Path("a"), Path("b")), (Path("a"), None, "c")):
        with pytest.raises(BadInput, match="needs one of path"):
            Source(*arguments)


def test_names_and_roots(tmp_path: Path) -> None:
    file = touch(tmp_path, "q.jsonl") / "q.jsonl"
    assert (Source(path=file).name, Source(path=file).root) == (str(file), tmp_path)
    assert (Source(folder=tmp_path).name, Source(folder=tmp_path).root) == (str(tmp_path), tmp_path)
    local, hub = Source(dataset=str(tmp_path), split="dev"), Source(dataset="someone/data")
    assert (local.name, local.root) == (f"{tmp_path}[dev]", tmp_path)
    assert (hub.name, hub.root) == ("someone/data[train]", Path(datasets.config.HF_CACHE_HOME))


def test_the_key_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("a")
    before = Source(path=path).key
    assert Source(path=path).key == before
    path.write_text("ab")
    assert Source(path=path).key != before
