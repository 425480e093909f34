import asyncio
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

A, B = (Image(np.full((4, 4, 3), shade, np.uint8)) for shade in (10, 200))
SAMPLING = {
    "max_tokens": 8, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "seed": 11, "logprobs": 0, "stop_token_ids": [2, 9],
    "ignore_eos": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_vlm("llava", tmp_path_factory.mktemp("sees") / "llava")


@pytest.fixture(scope="module")
def tokens(llava: Path) -> ImageTokens:
    return ImageTokens(load_processing(find_model(str(llava))))


def row_of(tokens: ImageTokens, *images: Image) -> tuple[list[int], Row]:
    """Ids with one placeholder an image, and the row that they stand for."""
    bare = [5, *(i for _ in images for i in (tokens.id, 6))]
    return bare, Row("e", tokens.expand(bare, images), (0,), 8, images)


def asked_of(answer: Any, row: Row, tokens: ImageTokens) -> tuple[Sampled, Asked]:
    asking = Asking("model", "mmrl-a-3", 0.7, (2, 9), "mmrl-a-3", tokens)
    with serving(answer) as server:
        out = asyncio.run(VLLM.sample(JsonClient(server.url, {}), asking, row, 11))
    (asked,) = server.asked
    return out, asked


def said(prompt: Any, ids: Any = (4, 2), logprobs: Any = (-0.5, -1.25)) -> dict[str, Any]:
    content = [{"token_id": i, "logprob": x, "rank": 1, "top_logprobs": []} for i, x in zip(ids, logprobs, strict=True)]
    choices = [{"index": 0, "token_ids": list(ids), "logprobs": {"content": content}}]
    return {"choices": choices, "prompt_token_ids": None if prompt is None else list(prompt)}


def test_a_row_goes_over_with_a_placeholder_an_image(tokens: ImageTokens) -> None:
    bare, row = row_of(tokens, A, B, A)
    out, asked = asked_of(lambda _: Reply(said(row.prompt)), row, tokens)
    assert out == Sampled((4, 2), (-0.5, -1.25), True)
    assert asked.path == "/inference/v1/generate"
    parts = asked.body.pop("content_parts")
    assert [Image(p["url"]) for p in parts] == [A, B, A], "every pixel as it is"
    assert [p["uuid"] for p in parts] == [f"mmrl-a-3-{i.sha256}" for i in (A, B, A)]
    assert {p["type"] for p in parts} == {"image_url"}
    banned = {str(i): -1e30 for i in tokens.banned}
    assert asked.body == {
        "model": "mmrl-a-3", "token_ids": bare, "cache_salt": "mmrl-a-3", "return_token_ids": True,
        "sampling_params": {**SAMPLING, "detokenize": False, "logit_bias": banned},
    }  # fmt: skip


def test_rows_without_images_go_the_way_of_text_with_images_ids_banned(tokens: ImageTokens) -> None:
    _, row = row_of(tokens)
    text = {"choices": [{"token_ids": [4, 2], "logprobs": {"token_logprobs": [-0.5, -1.25]}}]}
    out, asked = asked_of(lambda _: Reply(text), row, tokens)
    assert out == Sampled((4, 2), (-0.5, -1.25), True)
    assert (asked.path, set(asked.body["logit_bias"])) == ("/v1/completions", {str(i) for i in tokens.banned})


@pytest.mark.parametrize("change", [lambda ids: ids[:-1], lambda ids: [*ids[:-1], 7], lambda ids: [*ids, 6]])
def test_what_was_sampled_behind_another_prompt_is_not_taken(tokens: ImageTokens, change: Any) -> None:
    _, row = row_of(tokens, A)
    with pytest.raises(ServerError, match="reads images otherwise than the learner: it makes") as raised:
        asked_of(lambda _: Reply(said(change(list(row.prompt)))), row, tokens)
    assert raised.value.status == 200, "asked again it would say the same"


def test_an_answer_that_does_not_say_what_the_prompt_became_is_none(tokens: ImageTokens) -> None:
    _, row = row_of(tokens, A)
    with pytest.raises(ServerError, match=r"answered without the ids and log-probabilities.*prompt_token_ids"):
        asked_of(lambda _: Reply(said(None)), row, tokens)


@pytest.fixture
def server(llava: Path, tokens: ImageTokens) -> Iterator[StandIn]:
    """A server that sees as the model does."""
    size = read_config(find_model(str(llava))).get_text_config().vocab_size
    made = StandIn(str(llava), str(llava), vocabulary=size, end=1, dev=True, picture=tokens.of(PROBE).ids,
                   placeholder=tokens.id).start()  # fmt: skip
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
    tokens = ImageTokens(load_processing(find_model(server.model)))
    sent = [list(tokens.collapse(t.turns[0].prompt_ids, t.turns[0].images)) for t in found]
    assert sorted(b["token_ids"] for b in server.answered) == sorted(sent)
    assert not {i for t in found for i in t.turns[0].token_ids} & set(tokens.banned)
    salts = {b["cache_salt"] for b in server.answered}
    assert len(salts) == 2, "nothing that was computed of an image with old weights is used"
    assert {p["uuid"].rpartition("-")[0] for b in server.answered for p in b["content_parts"]} == salts


def test_a_server_that_reads_a_picture_otherwise_is_refused_before_training(server: StandIn, tmp_path: Path) -> None:
    check_servers(loaded(server, tmp_path))
    server.picture = server.picture[:-1]
    assert f"server {server.url} reads images otherwise than the learner: it makes" in refusal(loaded(server, tmp_path))


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
        f"server {server.url} is of a kind (sglang) that images were never tried with; they go to vLLM's servers, or "
        "to vLLM in process"
    )
