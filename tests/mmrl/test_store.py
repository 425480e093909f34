import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmrl.errors import BadInput, RunStopped
from mmrl.files import recover
from mmrl.rows import from_row, jsonable, schema, to_row
from mmrl.sample import Image, Message, Sample, Text, Video
from mmrl.score import RewardRecord, Score
from mmrl.store import RunStore, atomic_write, read_trajectories
from mmrl.trajectory import Trajectory, Turn

RED, BLUE = Image(np.full((2, 3, 3), 7, np.uint8)), Image(np.full((3, 2, 3), 9, np.uint8))


def simple(name: str = "t", response: str = "go forward") -> Trajectory:
    return Trajectory(name, "e", 1, "g", Sample.ask("where?"), (Turn((Text("where?"),), response),), True, False)


def full() -> Trajectory:
    """An episode that uses every field."""
    turns = (
        Turn((Text("see"), RED), "left 你好", (1, 2), (3, 4), (-0.1, -1 / 3), "stop", 0.1,
             {"state_key": "k", "n": 2**40, "deep": {"a": [1.5, None]}}, 3),
        Turn((Text("now"), BLUE), "right", (1, 2, 3, 4, 5, 6), (7,), (-1e-17,), "length", -0.5, {}, 4),
        Turn((), "", (9, 2), (), (), "context", 0.0, {"success": False}, 4),
    )  # fmt: skip
    sample = Sample("s1", (Message("system", (Text("rules"),)), Message("user", (Text("see"), RED))),
                    ["a", 1, {"b": None}], {"level": 3})  # fmt: skip
    scores = {
        "p": Score(0.1 + 0.2, info={"why": "so"}, turns=(0.1, 0.2, 0.0)),
        "q": Score.not_applicable(reason="none"),
        "r": Score(1.0, turns=()),
    }
    return Trajectory("t1", "babyai/GoToLocal", 7, "g7", sample, turns, False, True,
                      (Text("end"), Video([RED, RED], 3.3)), None, RewardRecord(0.3, True, scores))  # fmt: skip


def variants() -> list[Trajectory]:
    base = full()
    failed = RewardRecord(0.0, False, {"p": Score.failed("boom")})
    return [
        base, simple(),
        dataclasses.replace(base, id="t2", record=failed),
        dataclasses.replace(base, id="t3", turns=(), error="ValueError: x", record=None),
        dataclasses.replace(base, id="t4", turns=base.turns[:1], record=RewardRecord(0.0, False, {})),
        dataclasses.replace(base, id="t5", sample=Sample("s", (), None), final_observation=()),
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "run", "train_type: GRPO\n")


def test_rollouts_read_back_exactly_from_file_folder_and_run(store: RunStore) -> None:
    trajectories = variants()
    path = store.write_rollouts(12, trajectories, [0.5, None, None, None, -1.0, 0.0])
    assert path == store.root / "rollouts" / "step-000012.parquet"
    for place in (path, path.parent, store.root):
        assert read_trajectories(place) == trajectories
    assert sorted(p.name for p in (store.root / "images").iterdir()) == sorted(
        f"{i.sha256}.png" for i in (RED, BLUE)
    )
    store.write_rollouts(2, [simple("early")], [None])
    assert [t.id for t in read_trajectories(store.root)] == ["early", "t1", "t", "t2", "t3", "t4", "t5"]


def test_pandas_and_datasets_read_all_files_in_one_line(store: RunStore, tmp_path: Path) -> None:
    store.write_rollouts(1, [simple()], [None])  # whole columns of nulls, and no image
    store.write_rollouts(2, variants(), [0.5, None, None, None, -1.0, 0.0])
    schemas = [pq.read_schema(p) for p in sorted((store.root / "rollouts").iterdir())]
    assert schemas[0].equals(schemas[1], check_metadata=True)
    frame = pandas.read_parquet(store.root / "rollouts")
    assert list(frame["step"]) == [1] + [2] * 6
    assert list(frame["reward"].isna()) == [True, False, True, True, True, True, False]
    assert list(frame["n_turns"]) == [1, 3, 1, 3, 0, 1, 3]
    assert frame["policy_version"].max() == 4
    data = datasets.load_dataset("parquet", data_files=f"{store.root}/rollouts/*.parquet", split="train",
                                 cache_dir=str(tmp_path / "cache"))  # fmt: skip
    assert data["id"] == ["t", "t1", "t", "t2", "t3", "t4", "t5"]
    assert data[1]["scores"][1]["value"] is None
    chat = json.loads(data[1]["messages"])
    assert chat[0] == {"role": "system", "content": "rules"}
    assert chat[1]["content"][1] == {"type": "image_url", "image_url": {"url": f"images/{RED.sha256}.png"}}
    assert Image(store.root / chat[1]["content"][1]["image_url"]["url"]) == RED


def test_an_image_is_stored_once_however_often_it_is_shown(store: RunStore) -> None:
    sample = Sample.ask((RED, Text("again"), Image(RED.png())))
    turn = Turn((Image(RED.pixels.copy()), Video([RED, BLUE, RED], 1.0, (0.0, 0.1, 3.0))), "yes")
    episodes = [Trajectory(f"t{i}", "e", i, "g", sample, (turn, turn), True, False, (RED,)) for i in range(3)]
    store.write_rollouts(1, episodes[:2], [None, None])
    written = {p.name: p.stat().st_mtime_ns for p in (store.root / "images").iterdir()}
    assert set(written) == {f"{i.sha256}.png" for i in (RED, BLUE)}
    store.write_rollouts(2, episodes[2:], [None])
    assert {p.name: p.stat().st_mtime_ns for p in (store.root / "images").iterdir()} == written
    assert read_trajectories(store.root) == episodes
    (video,) = (part for part in read_trajectories(store.root)[2].turns[0].observation if isinstance(part, Video))
    assert (video.fps, video.times) == (1.0, (0.0, 0.1, 3.0))


def test_a_run_shows_no_image_from_outside_of_it(store: RunStore) -> None:
    (store.root.parent / "secret.png").write_bytes(RED.png())
    row = to_row(1, full(), None, lambda image: "../secret.png")
    (store.root / "rollouts").mkdir()
    pq.write_table(pa.Table.from_pylist([row], schema=schema()), store.root / "rollouts" / "step-000001.parquet")
    with pytest.raises(BadInput, match=r"step-000001.parquet, row 0: .*image ../secret.png: it lies outside"):
        read_trajectories(store.root)


def test_prompt_ids_are_stored_once(store: RunStore) -> None:
    row = to_row(0, full(), None, lambda image: image.sha256)
    assert [(t["prefix_len"], tuple(t["prompt_ids"])) for t in row["turns"]] == [(0, (1, 2)), (4, (5, 6)), (0, (9, 2))]


IDS = st.lists(st.integers(0, 3), max_size=6).map(tuple)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(IDS, IDS, st.text(), st.floats(allow_nan=False)), max_size=4))
def test_any_tokens_and_text_survive_the_row(turns: list[Any]) -> None:
    made = tuple(Turn((Text(s),), s, p, t, tuple(-x for x in range(len(t))), reward=r) for p, t, s, r in turns)
    trajectory = Trajectory("t", "e", 0, "g", Sample.ask("q"), made, True, False)
    row = json.loads(json.dumps(to_row(0, trajectory, None, lambda image: "")))
    assert from_row(row, Image) == trajectory


def test_what_json_cannot_hold() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    value = {"a": np.float32(0.5), "b": (1, np.int64(2)), "c": math.nan, "d": Odd(), 5: np.arange(3), "e": np.bool_(1)}
    assert jsonable(value) == {"a": 0.5, "b": [1, 2], "c": "nan", "d": "<odd>", "5": [0, 1, 2], "e": True}
    assert jsonable(np.zeros(2000)) == repr(np.zeros(2000))


def test_lone_surrogates_do_not_stop_a_run(store: RunStore) -> None:
    store.write_rollouts(1, [simple(response="a\ud800b")], [None])
    assert read_trajectories(store.root)[0].response == "a?b"


def test_metrics_append_and_the_line_that_a_kill_tore_is_dropped(store: RunStore) -> None:
    store.log({"step": 1, "reward": 0.5, "note": "é", "loss": math.nan, "none": None})
    store.close()
    path = store.root / "metrics.jsonl"
    assert path.read_text() == '{"step": 1, "reward": 0.5, "note": "é", "loss": null, "none": null}\n'
    path.write_bytes(path.read_bytes() + b'{"step": 2, "rew')
    again = RunStore.open(store.root)
    assert [m["step"] for m in again.metrics()] == [1]
    again.log({"step": 2, "reward": 1.0})
    assert [m["step"] for m in again.metrics()] == [1, 2]
    assert path.read_text().count("\n") == 2
    with pytest.raises(KeyError):
        again.log({"reward": 1.0})


def scalars(root: Path, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(root / "tensorboard"), purge_orphaned_data=True)
    events.Reload()
    return [(e.step, e.value) for e in events.Scalars(tag)]


def test_rewind_forgets_what_came_after(store: RunStore) -> None:
    for step in (1, 2, 3):
        store.log({"step": step, "reward": step / 4, "done": False, "text": "x"})
        store.write_rollouts(step, [simple()], [None])
        store.write_eval(f"step-{step}", {"step": step, "success": 0.5})
        store.checkpoint(step, lambda p: (p / "w").touch() or None, keep=9)
    store.write_eval("before", {"success": 0.1})
    assert scalars(store.root, "reward") == [(1, 0.25), (2, 0.5), (3, 0.75)]
    store.close()
    again = RunStore.open(store.root)
    again.rewind(1)
    assert [m["step"] for m in again.metrics()] == [1]
    assert sorted(p.name for p in (store.root / "rollouts").iterdir()) == ["step-000001.parquet"]
    assert sorted(p.name for p in (store.root / "eval").iterdir()) == ["before.json", "step-1.json"]
    assert [n for n, _ in again.checkpoints()] == [1]
    again.log({"step": 2, "reward": 0.125})
    assert scalars(store.root, "reward") == [(1, 0.25), (2, 0.125)]


def test_checkpoints_are_kept_in_order_of_their_numbers(store: RunStore) -> None:
    for step in (2, 9, 10):
        path = store.checkpoint(step, lambda p: (p / "w").write_text("x") and None)
    assert path == store.root / "checkpoints" / "step-10"
    assert [n for n, _ in store.checkpoints()] == [9, 10]
    store.checkpoint(10, lambda p: (p / "w").write_text("y") and None, keep=1)
    assert [(n, (p / "w").read_text()) for n, p in store.checkpoints()] == [(10, "y")]
    assert sorted(p.name for p in (store.root / "checkpoints").iterdir()) == ["step-10"]


def test_a_write_that_fails_leaves_what_was_there(store: RunStore) -> None:
    def broken(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise ValueError("no")

    store.publish("best", lambda p: (p / "w").write_text("old") and None)
    store.checkpoint(1, lambda p: (p / "w").write_text("old") and None)
    with pytest.raises(ValueError, match="no"):
        store.publish("best", broken)
    with pytest.raises(ValueError, match="no"):
        store.checkpoint(2, broken)
    assert sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file()) == [
        "best/w", "checkpoints/step-1/w", "config.yaml",
    ]  # fmt: skip
    store.publish("best", lambda p: (p / "w").write_text("new") and None)
    assert (store.root / "best" / "w").read_text() == "new"


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_open_brings_back_what_a_crash_between_two_renames_left(store: RunStore) -> None:
    pid = dead_pid()
    for name, text in [(f".best.{pid}.old", "old"), (f".final.{pid}.old", "older"), ("final", "new"),
                       (f".best.{pid}.tmp", "half")]:  # fmt: skip
        (store.root / name).mkdir()
        (store.root / name / "w").write_text(text)
    (store.root / "rollouts").mkdir()
    (store.root / "rollouts" / f".step-000001.parquet.{pid}.tmp").write_text("half")
    (store.root / "rollouts" / ".step-000002.parquet.1.tmp").write_text("of a live process")
    RunStore.open(store.root)
    names = [str(p.relative_to(store.root)) for p in sorted(store.root.rglob("*")) if p.is_file()]
    assert names == ["best/w", "config.yaml", "final/w", "rollouts/.step-000002.parquet.1.tmp"]
    assert [(store.root / n / "w").read_text() for n in ("best", "final")] == ["old", "new"]


def test_create_refuses_a_used_directory_and_impossible_places(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "a" / "run", "x: 1\n")
    assert (store.root / "config.yaml").read_text() == "x: 1\n"
    with pytest.raises(BadInput, match=r"run exists and is not empty; .*--resume.*--output-dir"):
        RunStore.create(tmp_path / "a" / "run", "x: 1\n")
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/mmrl-run")):
        with pytest.raises(BadInput, match=str(place)):
            RunStore.create(place, "")
    (tmp_path / "empty").mkdir()
    RunStore.create(tmp_path / "empty", "")


def test_open_refuses_what_is_no_run(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match=r"is no run: it has no config\.yaml"):
            RunStore.open(place)


def test_reading_names_what_is_wrong(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file or folder"):
        read_trajectories(tmp_path / "none")
    with pytest.raises(BadInput, match=r"holds no \.parquet file"):
        read_trajectories(store.root)
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(BadInput, match=r"a\.parquet: not a Parquet file"):
        read_trajectories(tmp_path / "a.parquet")
    pandas.DataFrame({"id": ["a"], "other": [1]}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(BadInput, match=r"b\.parquet: lacks the columns step, .*; it has id, other"):
        read_trajectories(tmp_path / "b.parquet")
    table = pq.read_table(store.write_rollouts(1, [simple("a"), simple("b")], [None, None]))
    bad = table.set_column(table.column_names.index("messages"), "messages", [["[]", "{"]])
    pq.write_table(bad, tmp_path / "c.parquet")
    with pytest.raises(BadInput, match=r"c\.parquet, row 1: not a rollout row.*JSONDecodeError"):
        read_trajectories(tmp_path / "c.parquet")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from mmrl.errors import RunStopped
from mmrl.store import RunStore
root = Path(sys.argv[1])
store = RunStore.create(root, "")
store.log({"step": 1})
store.checkpoint(1, lambda p: (p / "w").write_bytes(b"x" * 100) and None)
store.publish("best", lambda p: (p / "w").write_bytes(b"x" * 100) and None)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
big = lambda p: (p / "w").write_bytes(b"y" * 1000) and None
calls = [lambda: store.checkpoint(2, big), lambda: store.publish("best", big),
         lambda: store.write_eval("e", {"x": "y" * 1000}), lambda: store.log({"step": 2, "x": "y" * 1000}),
         lambda: store.write_rollouts(1, [], [])]
for call in calls:
    try:
        call()
    except RunStopped as error:
        print(error)
"""


def test_disk_full_stops_the_run_with_everything_before_intact(tmp_path: Path) -> None:
    root = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(root)], capture_output=True, text=True, check=False)
    end = f"in {root}: File too large; the last checkpoint is intact: {root}/checkpoints/step-1"
    lines = done.stdout.splitlines()
    assert [line.partition(" in /")[0] for line in lines] == [
        "cannot write checkpoints/step-2", "cannot write best/", "cannot write eval/e.json",
        "cannot write metrics.jsonl", "cannot write rollouts/step-000001.parquet",
    ], done.stderr  # fmt: skip
    assert all(line.endswith(end) for line in lines if "metrics" not in line)
    files = {str(p.relative_to(root)): p.stat().st_size for p in root.rglob("*") if p.is_file()}
    assert {n: s for n, s in files.items() if not n.startswith("tensorboard")} == {
        "config.yaml": 0, "metrics.jsonl": 12, "checkpoints/step-1/w": 100, "best/w": 100,
    }  # fmt: skip


KILLED = """
import sys
from itertools import count
from pathlib import Path
from mmrl.sample import Sample, Text, Image
from mmrl.store import RunStore
from mmrl.trajectory import Trajectory, Turn
import numpy as np
root = Path(sys.argv[1])
store = RunStore.open(root)
start = len(store.metrics())
def write(folder):
    for name in "abc":
        (folder / name).write_text(str(step))
for step in count(start):
    image = Image(np.full((2, 2, 3), step % 256, np.uint8))
    turn = Turn((Text("q"), image), str(step))
    store.write_rollouts(step, [Trajectory("t", "e", 0, "g", Sample.ask([image]), (turn,), True, False)], [None])
    store.checkpoint(step, write)
    store.publish("best", write)
    store.write_eval("last", {"step": step})
    store.log({"step": step, "pad": "x" * 2000})
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_store_that_opens_with_whole_files(store: RunStore) -> None:
    for round_ in range(6):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(store.root)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(round_ * 20_000):  # a different moment each round, without looking at a clock
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        again = RunStore.open(store.root)
        done = len(again.metrics())
        assert [m["step"] for m in again.metrics()] == list(range(done))
        episodes = read_trajectories(store.root)
        assert [int(t.response) for t in episodes][:done] == list(range(done))
        assert all(t.sample.messages[0].images[0].pixels[0, 0, 0] == int(t.response) % 256 for t in episodes)
        for step, folder in again.checkpoints():
            assert [(folder / n).read_text() for n in "abc"] == [str(step)] * 3
        assert len(again.checkpoints()) >= min(2, done)
        assert len({(store.root / "best" / n).read_text() for n in "abc"}) == 1
        assert json.loads((store.root / "eval" / "last.json").read_text())["step"] >= done - 1
        leftovers = [p for p in store.root.rglob(".*") if p.name.endswith((".tmp", ".old"))]
        assert leftovers == []
        again.close()


def test_atomic_write_replaces_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    atomic_write(tmp_path / "deep" / "a", b"1")
    atomic_write(tmp_path / "deep" / "a", b"22")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "deep").iterdir()] == [("a", b"22")]
    (tmp_path / "deep" / "b").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_write(tmp_path / "deep" / "b", b"1")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["a", "b"]
    recover(tmp_path / "none")


def test_run_stopped_says_when_there_is_no_checkpoint(store: RunStore) -> None:
    (store.root / "eval").touch()
    with pytest.raises(RunStopped, match=r"cannot write eval/a\.json in .*; no checkpoint was written yet"):
        store.write_eval("a", {})


def test_importing_the_store_loads_neither_pyarrow_nor_tensorboard_nor_torch() -> None:
    code = "import sys, mmrl.store; print([m for m in ('pyarrow', 'tensorboard', 'torch') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
