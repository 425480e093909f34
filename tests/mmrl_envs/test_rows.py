import io
import json
from pathlib import Path

import datasets
import pandas
import pytest
from PIL import Image

from mmrl import BadInput
from mmrl_envs.rows import check_rows, read_dataset, read_file

ROWS = [{"q": "one?", "a": "1"}, {"q": "two?", "a": "2"}]


def write(folder: Path, suffix: str) -> Path:
    path, frame = folder / f"rows{suffix}", pandas.DataFrame(ROWS)
    match suffix:
        case ".jsonl":
            path.write_text("\n\n".join(json.dumps(row) for row in ROWS))
        case ".json":
            path.write_text(json.dumps(ROWS))
        case ".csv":
            frame.to_csv(path, index=False)
        case _:
            frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    assert [row for _, row in read_file(write(tmp_path, suffix))] == ROWS


def test_jsonl_rows_are_numbered_by_line(tmp_path: Path) -> None:
    assert [number for number, _ in read_file(write(tmp_path, ".jsonl"))] == [1, 3]


def test_a_saved_dataset(tmp_path: Path) -> None:
    both = {"train": datasets.Dataset.from_list(ROWS), "dev": datasets.Dataset.from_list(ROWS[:1])}
    whole = datasets.DatasetDict(both)
    whole.save_to_disk(tmp_path / "dict")
    whole["train"].save_to_disk(tmp_path / "one")
    assert [row for _, row in read_dataset(str(tmp_path / "dict"), "dev")] == ROWS[:1]
    assert [row for _, row in read_dataset(str(tmp_path / "one"), "train")] == ROWS
    with pytest.raises(BadInput, match="split 'test'"):
        read_dataset(str(tmp_path / "dict"), "test")


def test_dataset_rows_are_read_when_asked_for_and_nothing_is_decoded(tmp_path: Path) -> None:
    features = datasets.Features({"pictures": [datasets.Image()], "label": datasets.ClassLabel(names=["cat", "dog"])})
    picture = Image.new("RGB", (3, 2), "red")
    data = [{"pictures": [picture] * (i % 3), "label": i % 2 if i else None} for i in range(150)]
    datasets.Dataset.from_list(data, features=features).save_to_disk(tmp_path)
    rows = read_dataset(str(tmp_path), "train")
    assert len(rows) == 150
    assert rows[0] == (1, {"pictures": [], "label": None})
    number, row = rows[-1]
    assert (number, row["label"], len(row["pictures"])) == (150, "dog", 2)
    assert Image.open(io.BytesIO(row["pictures"][0]["bytes"])).size == (3, 2)
    assert list(rows) == [rows[i] for i in range(150)] == rows[:]
    with pytest.raises(IndexError):
        rows[150]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "a.txt: rows are read from .jsonl, .json, .csv, .parquet, not '.txt'"),
        ("a.jsonl", '{"q": 1}\n{"q": ', "a.jsonl: row 2 is no JSON"),
        ("a.json", '{"q": 1}', "a list of rows is needed"),
        ("a.json", "[", "a.json: no JSON"),
        ("a.parquet", "PAR", "no Parquet"),
        ("a.csv", "q,a\n", "holds no rows"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInput) as caught:
        read_file(tmp_path / name)
    assert message in str(caught.value)


def test_bytes_that_are_no_text_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(BadInput, match="cannot be read"):
        read_file(tmp_path / "a.jsonl")
    with pytest.raises(BadInput, match="cannot be read"):
        read_file(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"q": "x"}, "f: row 2 has no column 'a'; columns present: q; name the right one in columns"),
        ({"q": "x", "a": None}, "f: row 2: 'a' holds nothing, not text or a number; columns present: q, a"),
        ({"q": [1], "a": "x"}, "f: row 2: 'q' holds a list, not text or a number; columns present: q, a"),
        ("text", "f: row 2 is a str, not an object with columns"),
        ({}, "f: row 2 has no column 'q'; columns present: none; name the right one in columns"),
    ],
)
def test_bad_rows_are_named(row: object, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_rows("f", [(1, ROWS[0]), (2, row)], ("q", "a"))
    assert str(caught.value) == message
