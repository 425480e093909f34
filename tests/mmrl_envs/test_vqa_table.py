import gc
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmrl_envs.vqa_table
from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.image_rules import ImageRules
from mmrl_envs.vqa_columns import Columns
from mmrl_envs.vqa_item import Layout
from mmrl_envs.vqa_source import Source
from mmrl_envs.vqa_split import Split
from mmrl_envs.vqa_table import Table, checked

NOISE = Image(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
PICTURES = [Image(np.full((2, 3, 3), level, np.uint8)) for level in range(10)]


def write(folder: Path, count: int, **changes: Any) -> Path:
    """``count`` questions about ten images; ``row_17={...}`` changes a row."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(PICTURES):
        (folder / "images" / f"{i}.png").write_bytes(picture.png())
    rows = [{"image": f"images/{i % 10}.png", "question": f"Question {i}?", "answer": str(i % 10),
             **changes.get(f"row_{i + 1}", {})} for i in range(count)]  # fmt: skip
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "q.jsonl"


def table(path: Path, on_bad_sample: Any = "error", split: Split | None = None, **rules: Any) -> Table:
    source, layout = Source(path=path), Layout(Columns.of(None), root=path.parent)
    return checked(source, layout, ImageRules(path.parent, **rules), on_bad_sample, split or Split())


def test_a_missing_file_in_row_17_of_a_thousand(tmp_path: Path) -> None:
    path = write(tmp_path, 1000, row_17={"image": "images/gone.png"})
    with pytest.raises(BadInput) as caught:
        table(path)
    assert str(caught.value) == (f"{path}: row 17 of 1,000: image images/gone.png: no such file "
                                 "(the other rows are sound; on_bad_sample: skip goes on without)")  # fmt: skip


def test_bad_rows_are_skipped_counted_and_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, 1000, row_17={"image": "images/gone.png"}, row_400={"answer": None})
    with pytest.raises(BadInput, match=r"row 17 of 1,000: .*\(2 rows are bad; on_bad_sample: skip"):
        table(path)
    with caplog.at_level(logging.WARNING):
        found = table(path, "skip")
        assert table(path, "skip") is found
    assert (found.skipped, len(found.sound)) == (2, 998)
    assert {16, 399}.isdisjoint(index for index, _ in found.sound)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: 2 of 1,000 rows are skipped; the first is row 17: image images/gone.png: no such file"
    ]


def test_no_sound_row_is_an_error_even_if_skipped(tmp_path: Path) -> None:
    path = write(tmp_path, 3)
    said = r"row 1 of 3: image images/0.png: .* more than max_pixels \(5\) \(no row of 3 is sound\)"
    with pytest.raises(BadInput, match=said):
        table(path, "skip", max_pixels=5)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "the image is empty (0 bytes)"), (b"text", "not an image that Pillow can read"),
    (NOISE.png()[:6000], "the image is damaged"),
])  # fmt: skip
def test_images_are_decoded_before_the_first_episode(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path, 20, row_5={"image": "images/bad.png"})
    (tmp_path / "images" / "bad.png").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        table(path)
    assert f"row 5 of 20: image images/bad.png: {message}" in str(caught.value)


def test_rules_hold_for_every_row(tmp_path: Path) -> None:
    for image, message in {"../secret.png": "it lies outside", "https://example.com/a.png": "allow_http"}.items():
        path = write(tmp_path / "data", 3, row_2={"image": image})
        (tmp_path / "secret.png").write_bytes(PICTURES[0].png())
        with pytest.raises(BadInput, match=rf"row 2 of 3: image {image}: .*{message}"):
            table(path)
    path = write(tmp_path / "data", 3, row_2={"image": "../secret.png"})
    assert len(table(path, allow_outside=True).sound) == 3


def test_a_file_is_read_again_when_it_changes_and_an_error_is_not_remembered(tmp_path: Path) -> None:
    path = write(tmp_path, 3, row_1={"image": "images/later.png"})
    with pytest.raises(BadInput, match="no such file"):
        table(path)
    (tmp_path / "images" / "later.png").write_bytes(PICTURES[0].png())
    first = table(path)
    assert table(path) is first
    assert len(table(write(tmp_path, 4)).sound) == 4


def test_parts_share_one_check_and_have_no_row_in_common(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    whole = mmrl_envs.vqa_table._problem_of
    monkeypatch.setattr(mmrl_envs.vqa_table, "_problem_of", lambda s, r: calls.append(s) or whole(s, r))
    monkeypatch.setattr(mmrl_envs.vqa_table, "BLOCK", 400)  # one thread: another might decode an image a second time
    path = write(tmp_path, 400)
    train, held_out = (table(path, split=Split(part, 0.2)) for part in ("train", "eval"))
    assert sorted(calls) == [f"images/{i}.png" for i in range(10)]
    assert sorted([*train.sound, *held_out.sound]) == list(table(path).sound)
    assert 50 < len(held_out.sound) < 110
    # The same rows in another order and another folder fall into the same parts.
    (tmp_path / "copy").mkdir()
    (tmp_path / "images").rename(tmp_path / "copy" / "images")
    lines = path.read_text().splitlines()
    (tmp_path / "copy" / "q.jsonl").write_text("\n".join(reversed(lines)))
    moved = table(tmp_path / "copy" / "q.jsonl", split=Split("eval", 0.2))
    assert {name for _, name in moved.sound} == {name for _, name in held_out.sound}


def test_rows_of_one_id_stay_together(tmp_path: Path) -> None:
    path = write(tmp_path, 60, **{f"row_{i + 1}": {"id": i // 3} for i in range(60)})
    train, held_out = (table(path, split=Split(part, 0.3)) for part in ("train", "eval"))
    assert {name for _, name in train.sound}.isdisjoint(name for _, name in held_out.sound)
    assert len(train.repeated) == 20


def test_an_empty_part_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    messages: list[str] = []
    for part in ("train", "eval"):
        try:
            table(path, split=Split(part, 0.5))
        except BadInput as error:
            messages.append(str(error))
    assert len(messages) == 1
    assert messages[0].endswith("holds none of its 1 rows (eval_share 0.5)")


def test_an_image_that_is_shown_is_shared_and_one_that_is_not_is_not_kept(tmp_path: Path) -> None:
    found = table(write(tmp_path, 20))
    shown = found.image("images/3.png")
    assert shown == PICTURES[3]
    assert found.image("images/3.png") is shown
    del shown
    gc.collect()
    assert "images/3.png" not in found._alive


def test_many_threads_make_one_table(tmp_path: Path) -> None:
    path, barrier = write(tmp_path, 200), threading.Barrier(4)

    def make(_: int) -> Table:
        barrier.wait()
        return table(path)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(map(id, pool.map(make, range(4))))) == 1
