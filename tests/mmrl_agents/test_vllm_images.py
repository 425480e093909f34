import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learner_tools import run_config
from local_server import Asked, Reply, serving
from stand_in_vllm import StandIn
from tiny_vlm import save_tiny_vlm

from mmrl.config_load import LoadedConfig
from mmrl.errors import BadInput
from mmrl.image import Image
from mmrl.json_client import JsonClient, ServerError
from mmrl.report import Quiet
from mmrl.store import read_trajectories
from mmrl_agents.check_server import check_servers
from mmrl_agents.engine_api import Asking
from mmrl_agents.generate import Row, Sampled
from mmrl_agents.image_tokens import PROBE, ImageTokens
from mmrl_agents.models import find_model, load_processing, read_config
from mmrl_agents.train import Grpo
from mmrl_agents.vllm_api import VLLM
from mmrl_agents.vllm_images import offsets, shown

A, B = (Image(np.full((4, 4, 3), shade, np.uint8)) for shade in (10, 200))
ASKING = Asking("model", "mmrl-a-3", 0.7, (2, 9), "mmrl-a-3", (7, 8))
ROW = Row("e", (5, 7, 7, 6, 7, 7, 7, 7, 5), (0,), 8, (A, B, A))


def rendered(ids: list[int], **features: Any) -> dict[str, Any]:
    """What a server makes of a message with one image: ids 1 and 2 of its message are the image."""
    known = {"mm_hashes": {"image": ["h"]}, "mm_placeholders": {"image": [{"offset": 1, "length": 2}]},
             "kwargs_data": {"image": ["d"]}, "mm_metadata": {"image": [None]}, **features}  # fmt: skip
    return {"token_ids": ids, "features": known, "request_id": "x"}


@pytest.mark.parametrize(("prompt", "pieces", "found"), [
    ((5, 7, 7, 5), [(7, 7)], [1]), ((5, 7, 7, 6, 8, 5), [(7, 7), (8,)], [1, 4]), ((7, 8), [(7,), (8,)], [0, 1]),
    ((5, 6), [], []),
])  # fmt: skip
def test_each_piece_is_found_behind_the_one_before(prompt: tuple[int, ...], pieces: list[tuple[int, ...]],
                                                   found: list[int]) -> None:
    assert offsets(prompt, pieces) == found


def test_equal_images_stand_one_after_the_other_also_side_by_side() -> None:
    assert offsets((5, 7, 7, 6, 7, 7, 7, 7, 5), [(7, 7)] * 3) == [1, 4, 6]
    assert offsets((7, 7), [(7, 7)]) == [0]


@pytest.mark.parametrize(("prompt", "pieces", "why"), [
    ((5, 7, 7, 5), [(7, 7, 7)], r"of image 1 of 1 it makes 3 ids, which do not stand where the learner has the image"),
    ((5, 8, 7), [(7,), (8,)], r"of image 2 of 2 it makes 1 ids"),  # not in this order
    ((5, 7, 7), [(7, 7), (7, 7)], r"of image 2 of 2 it makes 2 ids"),
    ((5, 7, 7, 7, 7), [(7, 7)], r"it makes 2 ids of 1 images, and the learner 4"),
])  # fmt: skip
def test_images_that_are_read_otherwise_have_no_place(prompt: tuple[int, ...], pieces: list[tuple[int, ...]],
                                                      why: str) -> None:
    with pytest.raises(ValueError, match=why):
        offsets(prompt, pieces)


def test_what_a_server_makes_of_an_image_is_cut_out_of_its_message() -> None:
    made = shown(rendered([1, 7, 7, 2]))
    assert (made.ids, made.digest, made.data) == ((7, 7), "h", "d")


@pytest.mark.parametrize("said", [
    {"token_ids": [1, 2], "features": None}, {}, None, rendered([1, 7, 7, 2], kwargs_data=None),
    rendered([1, 7, 7, 2], mm_hashes={"image": []}), rendered([1, 7, 7, 2], mm_hashes={"image": ["h", "h"]}),
    rendered([1, 7, 7, 2], mm_placeholders={"image": [{"offset": 9, "length": 2}]}),  # behind the end
])  # fmt: skip
def test_what_holds_no_image_or_not_its_tensors_is_none(said: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # each in pydantic's words
        shown(said)


def test_an_image_with_other_ids_between_its_features_cannot_be_sent() -> None:
    with pytest.raises(ValueError, match=r"makes 2 ids of an image, some of which stand for no part of it.*in process"):
        shown(rendered([1, 7, 8, 2]))


def asked_of(answer: Any, row: Row = ROW, asking: Asking = ASKING, times: int = 1) -> tuple[list[Sampled], list[Asked]]:
    async def each(client: JsonClient) -> list[Sampled]:
        return [await VLLM.sample(client, asking, row, 11) for _ in range(times)]

    with serving(answer) as server:
        out = asyncio.run(each(JsonClient(server.url, {})))
    return out, server.asked


def looks(asked: Asked) -> Reply:
    """A server that makes (7, 7) of an image, and says 4 and 2."""
    if asked.path == "/inference/v1/generate":
        content = [{"token_id": i, "logprob": x, "rank": 1, "top_logprobs": []} for i, x in ((4, -0.5), (2, -1.25))]
        return Reply({"choices": [{"index": 0, "token_ids": [4, 2], "logprobs": {"content": content}}]})
    (part,) = asked.body["messages"][0]["content"]
    shade = int(Image(part["image_url"]["url"]).pixels[0, 0, 0])
    made = {"mm_hashes": {"image": [f"h{shade}"]}, "kwargs_data": {"image": [f"d{shade}"]}}
    return Reply(rendered([1, 7, 7, 2], **made))


def test_a_row_goes_over_as_its_own_ids_with_what_the_server_made_of_each_image() -> None:
    (out,), asked = asked_of(looks)
    assert out == Sampled((4, 2), (-0.5, -1.25), True)
    assert [a.path for a in asked] == ["/v1/chat/completions/render"] * 2 + ["/inference/v1/generate"]
    assert [a.body["model"] for a in asked] == ["model", "model", "mmrl-a-3"], "an adapter changes no image"
    assert asked[-1].body == {
        "model": "mmrl-a-3", "token_ids": list(ROW.prompt), "cache_salt": "mmrl-a-3",
        "features": {
            "mm_hashes": {"image": ["mmrl-a-3-h10", "mmrl-a-3-h200", "mmrl-a-3-h10"]},
            "mm_placeholders": {"image": [{"offset": i, "length": 2} for i in (1, 4, 6)]},
            "kwargs_data": {"image": ["d10", "d200", "d10"]},
        },
        "sampling_params": {
            "max_tokens": 8, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 11, "logprobs": 0, "stop_token_ids": [2, 9],
            "ignore_eos": True, "detokenize": False, "logit_bias": {"7": -1e30, "8": -1e30},
        },
    }  # fmt: skip


def test_an_image_is_shown_to_a_server_once() -> None:
    out, asked = asked_of(looks, times=3)
    assert out[0] == out[1] == out[2]
    assert [a.path.rpartition("/")[2] for a in asked] == ["render", "render", "generate", "generate", "generate"]
    _, other = asked_of(looks)
    assert [a.path.rpartition("/")[2] for a in other] == ["render", "render", "generate"], "each server looks"


def test_rows_without_images_go_the_way_of_text_with_images_ids_banned() -> None:
    said = {"choices": [{"token_ids": [4, 2], "logprobs": {"token_logprobs": [-0.5, -1.25]}}]}
    (out,), (asked,) = asked_of(lambda _: Reply(said), dataclasses.replace(ROW, images=()))
    assert out == Sampled((4, 2), (-0.5, -1.25), True)
    assert (asked.path, asked.body["logit_bias"]) == ("/v1/completions", {"7": -1e30, "8": -1e30})


@pytest.mark.parametrize(("ids", "why"), [
    ([1, 9, 9, 2], "of image 1 of 3 it makes 2 ids, which do not stand where"), ([1], "it makes 0 ids of an image"),
    ([1, 7, 8, 2], "it makes 2 ids of an image, some of which stand for no part of it"),
])  # fmt: skip
def test_a_row_that_is_read_otherwise_is_not_sampled(ids: list[int], why: str) -> None:
    paths: list[str] = []

    def answer(asked: Asked) -> Reply:
        paths.append(asked.path)
        return Reply(rendered(ids))

    with pytest.raises(ServerError, match=f"reads images otherwise than the learner: {why}") as raised:
        asked_of(answer)
    assert raised.value.status == 200, "asked again it would say the same"
    assert "/inference/v1/generate" not in paths


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vlm("llava", tmp_path_factory.mktemp("sees") / "llava")


@pytest.fixture
def server(llava: Path) -> Iterator[StandIn]:
    """A server that sees as the model does."""
    files = find_model(str(llava))
    tokens = ImageTokens(load_processing(files))
    size = read_config(files).get_text_config().vocab_size
    made = StandIn(str(llava), str(llava), vocabulary=size, end=1, dev=True, picture=tokens.of(PROBE).ids).start()
    yield made
    if made.server is not None:
        made.kill()


def loaded(server: StandIn, folder: Path, **args: Any) -> LoadedConfig:
    given = {"use_vllm_sampler": True, "vllm_config": {"server": server.url}, "lora": {"r": 4}, "max_steps": 2, **args}
    return run_config(folder, "run", [{"id": "vqa/shapes", "kwargs": {"image_size": 56}}], model_id=server.model,
                      training_args=given, rollout={"temperature": 0.7})  # fmt: skip


def refusal(config: LoadedConfig) -> str:
    with pytest.raises(BadInput) as raised:
        check_servers(config)
    where = config.where("training_args", "vllm_config", "server") + ": "
    assert str(raised.value).startswith(where)
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(where)


@pytest.mark.parametrize("lora", [{"r": 4}, None], ids=["adapter", "all weights"])
def test_a_run_samples_with_a_server_that_is_shown_its_images(server: StandIn, tmp_path: Path, lora: Any) -> None:
    config = loaded(server, tmp_path, lora=lora)
    made = Grpo()
    made.check(config)
    root = made.train(config, False, Quiet())
    found = read_trajectories(root)
    assert len(found) == 16
    assert [sorted(b["token_ids"] for b in server.answered)] == [sorted(list(t.turns[0].prompt_ids) for t in found)]
    tokens = ImageTokens(load_processing(find_model(server.model)))
    assert not {i for t in found for i in t.turns[0].token_ids} & set(tokens.banned)
    asked = server.server.asked if server.server is not None else []
    rendered = [a for a in asked if a.path.endswith("/render")]
    assert len({json.dumps(a.body["messages"]) for a in rendered}) == 4 + 1, "two tasks a step, and the probe"
    salts = {b["cache_salt"] for b in server.answered}
    assert len(salts) == 2, "nothing that was computed of an image with old weights is used"
    names = {h for b in server.answered for h in b["features"]["mm_hashes"]["image"]}
    assert {n.rpartition("-")[0] for n in names} == salts


def test_a_server_that_reads_a_picture_otherwise_is_refused_before_training(server: StandIn, tmp_path: Path) -> None:
    check_servers(loaded(server, tmp_path))
    own = len(server.picture)
    server.picture = server.picture[:-1]
    said = refusal(loaded(server, tmp_path))
    assert said == (f"server {server.url} reads images otherwise than the learner: it makes {own - 1} ids of 1 images, "
                    f"and the learner {own}")  # fmt: skip
    server.picture = (3,) * own
    assert "which do not stand where the learner has the image" in refusal(loaded(server, tmp_path))
    server.picture = (3, 4) * own
    assert "stand for no part of it" in refusal(loaded(server, tmp_path))


def test_a_server_without_the_paths_for_images_is_refused_with_how_to_start_it(server: StandIn, tmp_path: Path) -> None:
    server.picture = ()
    said = refusal(loaded(server, tmp_path))
    assert "answered 403 Forbidden" in said
    assert said.endswith("start it with --enable-scale-out (mmrl serve-sampler does): the model sees images")


def test_a_server_of_another_kind_is_shown_no_images(server: StandIn, tmp_path: Path) -> None:
    def sglang(asked: Asked) -> Reply | None:
        said = [[-1.0 / asked.body["sampling_params"]["temperature"], 1, None]] if asked.path == "/generate" else []
        return Reply({"meta_info": {"output_token_logprobs": said}}) if said else None

    server.owner, server.hook = "sglang", sglang
    assert refusal(loaded(server, tmp_path)) == (
        f"server {server.url} is an SGLang server, and images were never tried with one; they go to vLLM's servers, or "
        "to vLLM in process"
    )
