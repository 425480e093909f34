import base64
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
from PIL import Image as pil

import mmrl
from mmrl import BadInput, Image, Text, text_of
from mmrl.config_load import load_config

DATA = Path(__file__).parents[1] / "data" / "vqa"
RED, BLUE = (Image(np.full((2, 3, 3), colour, np.uint8)) for colour in ((255, 0, 0), (0, 0, 255)))
ROW = {"image": "red.png", "question": "What colour?", "answer": "red"}


def folder(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(RED.png())
    (tmp_path / "blue.png").write_bytes(BLUE.png())
    return tmp_path


def make(tmp_path: Path, *rows: dict[str, Any], **kwargs: Any) -> mmrl.Env:
    path = folder(tmp_path) / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return mmrl.make("vqa", path=path, **kwargs)


def test_a_folder_with_images_and_a_jsonl_file_in_one_line_of_yaml(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("train_type: GRPO\nmodel_id: mmrl/tiny\nenvironments:\n"
                      f"  - {{id: vqa, kwargs: {{path: {DATA / 'questions.jsonl'}}}}}\n"
                      "reward_plugins: [{name: task_completion}]\n")  # fmt: skip
    (entry,) = load_config(config).config.environments
    env = mmrl.make(entry.id, **entry.kwargs)
    seen = {}
    for seed in range(60):
        observation, info = env.reset(seed=seed)
        image, text = observation
        sample = info["sample"]
        assert isinstance(image, Image)
        assert sample.meta["images"] == [f"images/{sample.meta['row'] - 1}.png"]
        assert image == Image(DATA / sample.meta["images"][0])
        seen[sample.meta["row"]] = (text_of((text,)), sample.reference)
    assert len(seen) == 6
    assert seen[3] == ("What shape is it?", "circle")
    assert json.dumps(dict(sample.meta)) == json.dumps({"row": sample.meta["row"], "images": sample.meta["images"]})


def rows_file(tmp_path: Path, suffix: str) -> dict[str, Any]:
    text = base64.b64encode(RED.png()).decode()
    row: dict[str, Any] = {"image": "red.png", "question": "What colour?", "answer": "red"}
    path = folder(tmp_path) / f"q.{suffix.partition('-')[0]}"
    match suffix:
        case "jsonl-url":
            path.write_text(json.dumps({**row, "image": f"data:image/png;base64,{text}"}))
        case "jsonl":
            path.write_text(json.dumps({**row, "image": text}))
        case "json":
            path.write_text(json.dumps([row]))
        case "csv":
            pandas.DataFrame([row]).to_csv(path, index=False)
        case "parquet":
            pandas.DataFrame([{**row, "image": RED.png()}]).to_parquet(path)
        case _:
            pandas.DataFrame([{**row, "image": {"bytes": RED.png(), "path": "x.png"}}]).to_parquet(path)
    return {"path": path}


def dataset_folder(tmp_path: Path, saved: bool) -> dict[str, Any]:
    features = datasets.Features({"image": datasets.Image(), "question": datasets.Value("string"),
                                  "answer": datasets.Value("string")})  # fmt: skip
    data = datasets.Dataset.from_list([{"image": RED.to_pil(), "question": "What colour?", "answer": "red"}],
                                      features=features)  # fmt: skip
    if saved:
        data.save_to_disk(tmp_path / "saved")
        return {"dataset": str(tmp_path / "saved")}
    (tmp_path / "files").mkdir()
    data.to_parquet(tmp_path / "files" / "dev.parquet")
    return {"dataset": str(tmp_path / "files"), "split": "validation"}


def image_folder(tmp_path: Path, labels: bool) -> dict[str, Any]:
    (tmp_path / "pictures" / "red").mkdir(parents=True)
    (tmp_path / "pictures" / "red" / "1.png").write_bytes(RED.png())
    if not labels:
        row = {"file_name": "red/1.png", "question": "What colour?", "answer": "red"}
        (tmp_path / "pictures" / "metadata.jsonl").write_text(json.dumps(row))
    return {"folder": tmp_path / "pictures", **({"prompt": "What colour?"} if labels else {})}


@pytest.mark.parametrize("kind", ["jsonl", "jsonl-url", "json", "csv", "parquet", "parquet-hf", "saved dataset",
                                  "dataset of files", "folder with metadata", "folder of labels"])  # fmt: skip
def test_every_source_shows_the_same(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    if "dataset" in kind:
        arguments = dataset_folder(tmp_path, kind.startswith("saved"))
    elif "folder" in kind:
        arguments = image_folder(tmp_path, kind.endswith("labels"))
    else:
        arguments = rows_file(tmp_path, kind)
    env = mmrl.make("vqa", **arguments)
    observation, info = env.reset(seed=0)
    assert observation == (RED, Text("What colour?"))
    assert (info["sample"].reference, info["sample"].meta["row"]) == ("red", 1)
    assert env.step(" Red. ")[1:] == (1.0, True, False, {"valid_action": True, "action_cost": 1.0, "success": True})


def test_image_folder_datasets_of_hugging_face_are_read_in_place(tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name, image in (("red", RED), ("blue", BLUE)):
        (tmp_path / "pictures" / "train" / name).mkdir(parents=True)
        (tmp_path / "pictures" / "train" / name / "1.png").write_bytes(image.png())
    env = mmrl.make("vqa", dataset=str(tmp_path / "pictures"), prompt="Red or blue?")
    found = {}
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        found[info["sample"].reference] = observation[0]
    assert found == {"red": RED, "blue": BLUE}


def test_several_images_stand_at_their_marks_or_before_the_text(tmp_path: Path) -> None:
    row = {"image": ["red.png", "blue.png"], "question": "Is <image> or <image> red?", "answer": "the first"}
    observation, _ = make(tmp_path, row).reset(seed=0)
    assert observation == (Text("Is "), RED, Text(" or "), BLUE, Text(" red?"))
    observation, _ = make(tmp_path, row | {"question": "Which?"}, prompt="{question} Briefly.").reset(seed=0)
    assert observation == (RED, BLUE, Text("Which? Briefly."))
    env = make(tmp_path, {"a": "red.png", "b": "blue.png", "c": None, "question": "Which?", "answer": "1"},
               columns={"image": ["a", "b", "c"]}, system="Be brief.")  # fmt: skip
    observation, info = env.reset(seed=0)
    assert observation == (RED, BLUE, Text("Which?"))
    assert [(m.role, m.content) for m in info["sample"].messages] == [
        ("system", (Text("Be brief."),)), ("user", observation)]  # fmt: skip


def test_ten_annotators(tmp_path: Path) -> None:
    answers = [{"answer": a} for a in ["red"] * 7 + ["dark red"] * 2 + ["pink"]]
    env = make(tmp_path, {**ROW, "answer": answers})
    scores = {}
    for answer in ("red", "dark red", "pink", "blue"):
        _, info = env.reset(seed=0)
        _, reward, *_, end = env.step(answer)
        scores[answer] = (round(reward, 9), end["success"])
    assert scores == {"red": (1.0, True), "dark red": (0.6, True), "pink": (0.3, False), "blue": (0.0, False)}
    assert info["sample"].reference == [a["answer"] for a in answers]
    env.reset(seed=0)
    assert env.expert_action() == "red"


def test_alternatives(tmp_path: Path) -> None:
    env = make(tmp_path, {**ROW, "answer": ["sofa", "couch"]}, lists="alternatives")
    env.reset(seed=0)
    assert env.step("couch")[1:3] == (1.0, True)


def test_multiple_choice_agrees_with_the_plugin(tmp_path: Path) -> None:
    env = make(tmp_path, {**ROW, "choices": ["blue", "red", "green"]}, system="Answer with a letter.")
    observation, info = env.reset(seed=0)
    assert text_of(observation) == "What colour?\nA. blue\nB. red\nC. green"
    assert (info["sample"].reference, info["sample"].meta["choices"]) == ("B", ["blue", "red", "green"])
    suite = mmrl.RewardSuite.from_config([{"name": "multiple_choice"}])
    path = tmp_path / "q.jsonl"
    scores = {"B": 1, "(b)": 1, "Red.": 1, "B. red": 1, "A": 0, "green": 0, "A. red": 0, "B. blue": 0, "purple": 0}
    for answer, score in scores.items():
        (played,) = mmrl.rollout("vqa", policy=saying(answer), seeds=[0], env_kwargs={"path": path})
        assert played.turns[-1].reward == score, answer
        assert suite.score([played])[0].value == score, answer


def saying(answer: str) -> Any:
    class Parrot:
        async def generate(self, requests: Any) -> list[mmrl.Completion]:
            return [mmrl.Completion(answer) for _ in requests]

    return Parrot()


def test_an_answer_that_names_no_choice_is_answered_in_words(tmp_path: Path) -> None:
    env = make(tmp_path, {**ROW, "choices": ["blue", "red"]}, tries=2, feedback="Look again.")
    env.reset(seed=0)
    said, reward, terminated, _, info = env.step("purple")
    assert text_of(said) == ("Invalid answer: 'purple'. Answer with a letter from A to B, or with the text of a choice."
                             "\nLook again.")  # fmt: skip
    assert (reward, terminated, info) == (0.0, False, {"valid_action": False, "action_cost": 1.0})
    assert env.step("B")[1:] == (1.0, True, False, {"valid_action": True, "action_cost": 1.0, "success": True})


def test_a_second_try_after_feedback(tmp_path: Path) -> None:
    env = make(tmp_path, ROW, tries=2)
    env.reset(seed=0)
    assert env.step("blue")[:4] == ((Text("That is not right. Try again."),), 0.0, False, False)
    said, reward, terminated, _, info = env.step("green")
    assert (said, reward, terminated, info["success"]) == ((), 0.0, True, False)
    env.reset(seed=0)
    assert env.step("red")[1:3] == (1.0, True)
    with pytest.raises(RuntimeError, match="call reset"):
        env.step("red")


def test_follow_up_questions(tmp_path: Path) -> None:
    followups = [{"question": "How many?", "answer": 1}, {"question": "Sure?", "answer": "A", "choices": ["yes", "no"]}]
    env = make(tmp_path, {**ROW, "followups": followups}, tries=2)
    _, info = env.reset(seed=0)
    assert info["sample"].reference == "A"
    assert dict(info["sample"].meta) == {"row": 1, "images": ["red.png"], "choices": ["yes", "no"],
                                         "references": ["red", "1", "A"]}  # fmt: skip
    said, reward, terminated, _, info = env.step("red")
    assert (said, reward, terminated) == ((Text("How many?"),), pytest.approx(1 / 3), False)
    assert env.step("2")[:3] == ((Text("That is not right. Try again."),), 0.0, False)
    said, reward, terminated, *_ = env.step("one")
    assert (said, reward, terminated) == ((Text("Sure?\nA. yes\nB. no"),), pytest.approx(1 / 3), False)
    _, reward, terminated, _, info = env.step("yes")
    assert (reward, terminated, info["success"]) == (pytest.approx(1 / 3), True, True)
    # Wrong in the middle: the questions go on, and it is no success.
    env.reset(seed=0)
    rewards = [env.step(answer)[1] for answer in ("red", "3", "4")]
    _, reward, terminated, _, info = env.step(env.expert_action())
    assert sum([*rewards, reward]) == pytest.approx(2 / 3)
    assert (terminated, info["success"]) == (True, False)


def test_the_expert_solves_every_row() -> None:
    env = mmrl.make("vqa", path=DATA / "dialogues.jsonl")
    for seed in range(12):
        env.reset(seed=seed)
        total, terminated, info = 0.0, False, {}
        while not terminated:
            _, reward, terminated, _, info = env.step(env.expert_action())
            total += reward
        assert (round(total, 9), info["success"]) == (1.0, True)


def test_ids_parts_and_skipped_rows(tmp_path: Path) -> None:
    rows = [{**ROW, "question": f"Question {i}?", "name": i // 2} for i in range(40)]
    rows[5]["image"] = "gone.png"
    parts = {}
    for part in ("train", "eval"):
        env = make(tmp_path, *rows, columns={"id": "name"}, part=part, eval_share=0.3, on_bad_sample="skip")
        assert env.skipped == 1
        parts[part] = {env.reset(seed=s)[1]["sample"].id for s in range(400)}
    assert parts["train"].isdisjoint(parts["eval"])
    assert len(parts["train"] | parts["eval"]) == 39
    # Two rows have one id: the row's number tells them apart; row 6 is left out, so row 5 has its id alone.
    assert {"0-row-1", "0-row-2", "2"} <= parts["train"] | parts["eval"]


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"path": None}, "environment 'vqa' needs one of path"),
    ({"dataset": "x"}, "environment 'vqa' needs one of path"),
    ({"columns": {"img": "image"}}, "unknown role in vqa's columns 'img'"),
    ({"columns": {"answer": "reply"}}, "q.jsonl: row 1 of 2: no column 'reply'; columns present: image, question, "
     "answer; name the right one in columns"),
    ({"prompt": "{topic}"}, "q.jsonl: row 1 of 2: does not fill the prompt '{topic}' (KeyError: 'topic')"),
    ({"tries": 0}, "vqa's tries is a whole number of at least 1, not 0"),
    ({"part": "test"}, "part is one of all, train, eval, not 'test'"),
    ({"eval_share": 2}, "eval_share is a number between 0 and 1, not 2"),
    ({"lists": "some"}, "vqa's lists is one of annotators, alternatives, not 'some'"),
    ({"on_bad_sample": "ignore"}, "vqa's on_bad_sample is one of error, skip, not 'ignore'"),
    ({"max_pixels": 0}, "max_pixels is a whole number of at least 1, not 0"),
    ({"max_pixels": 5}, "row 1 of 2: image red.png: an image of 3x2 pixels, more than max_pixels (5)"),
    ({"image_root": "elsewhere"}, "row 1 of 2: image red.png: no such file"),
    ({"image_folder": "x"}, "does not take these arguments"),
])  # fmt: skip
def test_bad_input_is_named_before_the_first_episode(tmp_path: Path, kwargs: dict[str, Any], message: str) -> None:
    (folder(tmp_path) / "q.jsonl").write_text(f"{json.dumps(ROW)}\n" * 2)
    with pytest.raises(BadInput) as caught:
        mmrl.make("vqa", **{"path": tmp_path / "q.jsonl", **kwargs})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_of_every_kind(tmp_path: Path) -> None:
    grey = pil.fromarray(np.arange(0, 60000, 10000, dtype=np.uint16).reshape(2, 3))
    frames = [pil.new("P", (3, 2), 1), pil.new("P", (3, 2), 2)]
    for frame in frames:
        frame.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    grey.save(tmp_path / "grey.png")
    pil.new("CMYK", (3, 2)).save(tmp_path / "ink.jpg")
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    names = ["grey.png", "ink.jpg", "moving.gif"]
    env = make(tmp_path, {**ROW, "image": names})
    *images, _ = env.reset(seed=0)[0]
    assert [image.size for image in images if isinstance(image, Image)] == [(3, 2)] * 3
    assert images[0].pixels[..., 0].tolist() == [[0, 39, 78], [117, 156, 195]]
    assert images[1].pixels.min() >= 250
    assert images[2].pixels.max() == 9
