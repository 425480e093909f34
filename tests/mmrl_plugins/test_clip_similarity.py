import importlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_clip import CONFIGS, save_clip

from mmrl import BadInput, Image, Message, Sample, Text, Trajectory, Turn, Video
from mmrl.sample import Part
from mmrl.score import Score
from mmrl_plugins._clip_model import ClipModel, clip_model
from mmrl_plugins.clip_similarity import ClipSimilarity


def picture(seed: int, height: int = 40, width: int = 56) -> Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image(np.repeat(np.repeat(coarse, 8, 0), 8, 1))


def episode(*answers: str, shows: tuple[Part, ...] = (), query: str = "What is it?", reference: Any = None,
            later: tuple[tuple[Part, ...], ...] = ()) -> Trajectory:
    asked = (Text(query), *shows) if query else shows
    seen = (asked, *later, *((),) * len(answers))
    turns = tuple(Turn(seen[i], answer) for i, answer in enumerate(answers))
    sample = Sample("s", (Message("user", asked),), reference)
    return Trajectory("t", "test", 0, "g", sample, turns, True, False)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{save_clip(tmp_path_factory.mktemp('vit'))}"


@pytest.fixture
def plugin(vit: str) -> Any:
    """The plugin on a tiny random model, whose memory is emptied."""

    class Tiny(ClipSimilarity):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(model=vit, device="cpu", **kwargs)

        def one(self, trajectory: Trajectory) -> Score:
            (found,) = self.score([trajectory])
            return found

    clip_model(Tiny().source).forget()
    return Tiny


def by_open_clip(model: str, pretrained: str | None, image: Image, text: str) -> tuple[np.ndarray, np.ndarray, float]:
    """What open_clip itself makes of one image and one text, and the model's scale."""
    import torch

    open_clip: Any = importlib.import_module("open_clip")
    clip, _, transform = open_clip.create_model_and_transforms(model, pretrained)
    tokenizer = open_clip.get_tokenizer(model)
    clip.eval()
    with torch.no_grad():
        seen = clip.encode_image(transform(image.to_pil()).unsqueeze(0))
        said = clip.encode_text(tokenizer([text]))
    seen, said = seen / seen.norm(dim=-1, keepdim=True), said / said.norm(dim=-1, keepdim=True)
    return seen[0].numpy(), said[0].numpy(), float(clip.logit_scale.detach().exp())


@pytest.mark.parametrize("architecture", list(CONFIGS))
def test_images_texts_and_cosines_are_open_clips_own(architecture: str, tmp_path: Path) -> None:
    model = f"local-dir:{save_clip(tmp_path, architecture)}"
    made = ClipSimilarity(model=model, device="cpu", scale="cosine")
    images, texts = [picture(i) for i in range(3)], ["a red ball", "A photo of balls", "blue " * 40]
    ours = clip_model(made.source)
    seen, said = ours.embed_images({i.sha256: i for i in images}), ours.embed_texts(texts)
    ours.forget()
    scores = made.score([episode(text, shows=(image,)) for image, text in zip(images, texts, strict=True)])
    for image, text, score in zip(images, texts, scores, strict=True):
        expected_image, expected_text, scale = by_open_clip(model, None, image, text)
        assert np.abs(seen[image.sha256] - expected_image).max() <= 1e-5
        assert np.abs(said[text] - expected_text).max() <= 1e-5
        assert abs(score.value - float(expected_image @ expected_text)) <= 1e-5
        assert math.isclose(ours.scale, scale, rel_tol=1e-6)
    assert len({score.value for score in scores}) == 3


def test_an_architecture_of_open_clip_takes_a_checkpoint(tmp_path: Path) -> None:

    import open_clip
    import torch

    folder = save_clip(tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "mmrl-test-vit.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "mmrl-test-vit.json")
    weights = open_clip.create_model(f"local-dir:{folder}").state_dict()
    torch.save({"state_dict": weights}, tmp_path / "weights.pt")
    checkpoint = str(tmp_path / "weights.pt")
    plugin = ClipSimilarity("mmrl-test-vit", checkpoint, scale="cosine", device="cpu")
    (score,) = plugin.score([episode("a red ball", shows=(picture(1),))])
    image, text, _ = by_open_clip("mmrl-test-vit", checkpoint, picture(1), "a red ball")
    assert abs(score.value - float(image @ text)) <= 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_open_clips(dtype: str, plugin: Any) -> None:
    import torch

    shown = episode("a red ball", shows=(picture(1),))
    half = plugin(dtype=dtype, scale="cosine")
    assert clip_model(half.source).model.visual.conv1.weight.dtype == getattr(torch, dtype)
    assert 0.0 < abs(half.one(shown).value - plugin(scale="cosine").one(shown).value) < 0.05


def test_each_image_and_text_passes_the_model_once(plugin: Any) -> None:
    made = plugin()
    model = clip_model(made.source).model
    passes: list[tuple[str, int]] = []
    hooks = [
        model.visual.register_forward_hook(lambda _, given, __: passes.append(("images", len(given[0])))),
        model.transformer.register_forward_hook(lambda _, given, __: passes.append(("texts", len(given[0])))),
    ]
    try:
        episodes = [episode(f"answer {i % 3}", shows=(picture(i % 2),)) for i in range(12)]
        first = made.score(episodes)
        assert passes == [("images", 2), ("texts", 3)]
        assert made.score(episodes) == first
        assert len(passes) == 2
        made.score([episode("answer 0", shows=(picture(2),)), episode("answer 3", shows=(picture(0),))])
        assert passes[2:] == [("images", 1), ("texts", 1)]
        plugin(images="best").score(episodes[:1])  # the process shares one model
        assert len(passes) == 4
    finally:
        for hook in hooks:
            hook.remove()


def test_images_used_longest_ago_are_forgotten(plugin: Any) -> None:
    model = ClipModel(plugin().source, kept=2)
    shown = {picture(i).sha256: picture(i) for i in range(3)}
    keys = list(shown)
    model.embed_images({keys[0]: shown[keys[0]], keys[1]: shown[keys[1]]})
    model.embed_images({keys[0]: shown[keys[0]]})
    model.embed_images({keys[2]: shown[keys[2]]})
    assert [key in model.images for key in keys] == [True, False, True]
    assert len(model.embed_images(shown)) == 3


def test_a_batch_gives_what_one_by_one_gives(plugin: Any) -> None:
    episodes = [episode(f"a ball {'and a ball ' * i}", shows=(picture(i, 40 + 8 * i),)) for i in range(20)]
    together = plugin(scale="cosine").score(episodes)
    for i, alone in enumerate(episodes):
        clip_model(plugin().source).forget()
        assert abs(plugin(scale="cosine").one(alone).value - together[i].value) <= 2e-6


def test_unit_maps_the_cosine_to_0_and_1(plugin: Any) -> None:
    shown = episode("a red ball", shows=(picture(1),))
    unit, cosine = plugin().one(shown), plugin(scale="cosine").one(shown)
    assert unit.info == cosine.info == {"cosine": cosine.value}
    assert unit.value == pytest.approx((1 + cosine.value) / 2, abs=1e-6)
    assert (plugin().range, plugin(scale="cosine").range) == ((0.0, 1.0), (-1.0, 1.0))


def cosines(plugin: Any, text: str, *pictures: Image) -> list[float]:
    return [plugin(scale="cosine").one(episode(text, shows=(p,))).value for p in pictures]


def test_one_the_best_or_the_mean_of_several_images(plugin: Any) -> None:
    shown = (picture(1), picture(2), picture(3))
    alone = cosines(plugin, "a red ball", *shown)
    found = {how: plugin(images=how, scale="cosine").one(episode("a red ball", shows=shown)).value
             for how in ("first", "last", "best", "mean")}  # fmt: skip
    assert len(set(alone)) == 3
    assert (found["first"], found["last"], found["best"]) == (alone[0], alone[2], max(alone))
    assert found["mean"] == pytest.approx(sum(alone) / 3, abs=1e-6)


def test_frames_of_a_video_count_as_images(plugin: Any) -> None:
    frames = [picture(i) for i in range(9)]
    shown = episode("a red ball", shows=(Video(frames),))
    alone = cosines(plugin, "a red ball", *frames)
    found = {n: plugin(images="mean", frames=n, scale="cosine").one(shown) for n in (0, 1, 2, 3, 20)}
    assert found[0].status == "not_applicable"
    for n, taken in {1: [4], 2: [0, 8], 3: [0, 4, 8], 20: range(9)}.items():
        assert found[n].value == pytest.approx(sum(alone[i] for i in taken) / len(taken), abs=2e-6)


def test_the_images_of_the_conversation_or_of_the_observation(plugin: Any) -> None:
    one, two, three = (picture(i) for i in (1, 2, 3))
    told = episode("go", "a red ball", shows=(one, two), later=((three,),))
    alone = cosines(plugin, "a red ball", one, two, three)

    def found(**kwargs: Any) -> float:
        return plugin(scale="cosine", **kwargs).one(told).value

    assert found() == found(where="observation") == alone[2]
    assert found(images="first") == alone[0]
    assert found(images="first", where="observation") == alone[2]
    assert found(images="best") == max(alone)
    silent = episode("go", "a red ball", shows=(one,), later=((Text("on"),),))
    assert plugin(scale="cosine").one(silent).value == alone[0]
    assert plugin(where="observation").one(silent).info["reason"] == "no image was shown just before the answer"


def test_last_or_all_turns(plugin: Any) -> None:
    told = episode("a red ball", "blue", "a", shows=(picture(1),), later=((Text("on"),), (picture(2),)))
    a, b, c = (plugin().one(episode(text, shows=(picture(i),))).value
               for text, i in (("a red ball", 1), ("blue", 1), ("a", 2)))  # fmt: skip
    every = plugin(turns="all").one(told)
    assert plugin().one(told).value == c
    assert every.turns == (a / 3, b / 3, c / 3)
    assert every.value == math.fsum(every.turns)
    at_once = plugin(turns="all", where="observation").one(told)
    assert at_once.turns == (a / 2, 0.0, c / 2)
    assert at_once.info["cosines"][1] is None


def test_templates_and_references(plugin: Any) -> None:
    shown: tuple[Part, ...] = (picture(1),)
    told = episode("blue", shows=shown, query="what?", reference=["red", {"answer": "ball"}, 4, None, " "])
    texts = ["red", "ball", "4", "blue", "a photo of blue", "what? blue {red}", "what? blue {ball}", "what? blue {4}"]
    alone = {text: plugin().one(episode(text, shows=shown)).value for text in texts}
    assert plugin(text="a photo of {response}").one(told).value == alone["a photo of blue"]
    assert plugin(text="reference").one(told).value == max(alone[t] for t in ("red", "ball", "4"))
    both = plugin(text="{query} {response} {{{reference}}}")
    assert both.one(told).value == max(alone[t] for t in texts[5:])
    assert both.requires == plugin(text="reference").requires == {"reference"}
    assert (plugin().requires, plugin().requires_any) == (frozenset(), {"images", "videos"})
    assert plugin(frames=0).requires_any == {"images"}


def test_the_query_of_a_later_turn_is_what_was_said_before_it(plugin: Any) -> None:
    later: tuple[Part, ...] = (Text("and now?"),)
    told = episode("x", "blue", shows=(picture(1),), query="what?", later=(later,))
    alone = plugin().one(episode("and now? blue", shows=(picture(1),))).value
    assert plugin(text="{query} {response}").one(told).value == alone


def test_braces_in_an_answer_are_text(plugin: Any) -> None:
    shown: tuple[Part, ...] = (picture(1),)
    nasty = "{query} {0} {response.__class__} {"
    alone = plugin().one(episode(f"a photo of {nasty}", shows=shown)).value
    assert plugin(text="a photo of {response}").one(episode(nasty, shows=shown)).value == alone


def test_negatives_give_the_probability_of_the_text_among_them(plugin: Any) -> None:
    shown: tuple[Part, ...] = (picture(1),)
    negatives = ["blue", "what? red", "a photo of a ball"]
    alone = {text: cosines(plugin, text, picture(1))[0] for text in ("red", *negatives)}
    scale = clip_model(plugin().source).scale
    weights = {text: math.exp(scale * c) for text, c in alone.items()}
    calibrated = plugin(negatives=["blue", "{query} red", "a photo of a ball"])
    found = calibrated.one(episode("red", shows=shown, query="what?"))
    assert found.value == pytest.approx(weights["red"] / sum(weights.values()), abs=1e-4)
    assert found.info == {"cosine": alone["red"]}
    assert calibrated.range == (0.0, 1.0)
    among = calibrated.one(episode("blue", shows=shown, query="what?")).value  # its own negative is left out
    assert among == pytest.approx(weights["blue"] / sum(weights[t] for t in negatives), abs=1e-4)
    assert plugin(negatives=["blue"]).one(episode("blue", shows=shown)).value == 1.0


def test_an_answer_without_words_fits_nothing(plugin: Any) -> None:
    for blank in ("", " \n\t"):
        told = episode(blank, shows=(picture(1),))
        assert plugin(scale="cosine").one(told) == Score(0.0, info={"cosine": 0.0})
        assert plugin(text="a photo of {response}").one(told).value == 0.5
        assert plugin(negatives=["red"]).one(told).value == 0.0


@pytest.mark.parametrize(("trajectory", "kwargs", "reason"), [
    (episode(shows=(picture(1),)), {}, "the episode has no turns"),
    (episode("red"), {}, "the episode shows no image"),
    (episode("red"), {"where": "observation"}, "no image was shown just before the answer"),
    (episode("red", shows=(picture(1),)), {"text": "reference"}, "the sample has no reference in words"),
    (episode("red", shows=(picture(1),), reference=["", None]), {"text": "a {reference} {response}"},
     "the sample has no reference in words"),
])  # fmt: skip
def test_nothing_to_compare_is_not_applicable(plugin: Any, trajectory: Trajectory, kwargs: dict[str, Any],
                                              reason: str) -> None:
    found = plugin(**kwargs).one(trajectory)
    assert (found.status, found.info) == ("not_applicable", {"reason": reason})


def test_a_broken_image_or_reference_fails_alone(plugin: Any) -> None:
    good = episode("red", shows=(picture(1),), reference="red")
    broken = episode("red", shows=(Image(b"no image"),), reference="red")
    wordless = episode("red", shows=(picture(1),), reference={"color": "red"})
    found = plugin(text="reference").score([good, broken, wordless])
    assert [score.status for score in found] == ["ok", "failed", "failed"]
    assert "BadInput: " in found[1].info["error"]
    assert "the key 'answer', not color" in found[2].info["error"]


def test_long_and_odd_texts_are_cut_to_the_context(plugin: Any) -> None:
    shown: tuple[Part, ...] = (picture(1),)
    assert plugin().one(episode("\ud800 egg", shows=shown)).valid
    long, longer = (plugin().one(episode("a red ball " * n, shows=shown)).value for n in (50, 20_000))
    assert long == longer


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    import torch

    folder = save_clip(tmp_path)
    before = torch.get_rng_state()
    ClipSimilarity(model=f"local-dir:{folder}", device="cpu").load()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("kwargs", "message"), [
    ({"model": ""}, "model is the name or folder of a CLIP model"),
    ({"model": "ViT-B32", "pretrained": "openai"}, "unknown CLIP model 'ViT-B32' (near: ViT-B-32, "),
    ({"model": "zzz", "pretrained": "openai"}, "unknown CLIP model 'zzz'; it is 'embedded', "),
    ({"model": "ViT-B-32"}, "needs pretrained; it is one of openai, "),
    ({"model": "ViT-B/32", "pretrained": "laion2b_s34b_b79"}, "did you mean 'laion2b_s34b_b79k'"),
    ({"model": "ViT-B-32", "pretrained": "/nowhere/clip.pt"}, "'/nowhere/clip.pt': there is no such file"),
    ({"model": "ViT-B-32", "pretrained": 5}, "pretrained is"),
    ({"pretrained": "openai"}, "leave out pretrained"),
    ({"model": "hf-hub:"}, "hf-hub: is followed by a name"),
    ({"model": "local-dir:/nowhere"}, "there is no folder /nowhere"),
    ({"text": "answer"}, "text is 'response', 'reference' or a template"),
    ({"text": ""}, "text is a text"),
    ({"text": "a {answer}"}, "what stands in braces is one of {response}, {query}, {reference}"),
    ({"text": "a {response.upper}"}, "what stands in braces"), ({"text": "a {response!r}"}, "what stands in braces"),
    ({"text": "a {response:>9}"}, "what stands in braces"), ({"text": "a {response"}, "a brace by itself"),
    ({"images": "all"}, "images is one of last, first, best, mean"), ({"where": "turn"}, "where is one of"),
    ({"frames": -1}, "frames is a whole number"), ({"turns": "first"}, "turns is one of"),
    ({"scale": "log"}, "scale is one of"), ({"device": "gpu"}, "device is"), ({"dtype": "int8"}, "dtype is one of"),
    ({"negatives": "red"}, "negatives is a list of names"), ({"negatives": ["{response}"]}, "negatives"),
    ({"negatives": ["red"], "scale": "cosine"}, "the value is a probability"),
])  # fmt: skip
def test_bad_arguments_are_named(kwargs: dict[str, Any], message: str) -> None:

    with pytest.raises(BadInput, match=re.escape(message)):
        ClipSimilarity(**kwargs)


def test_a_folder_without_config_or_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no model's configuration"):
        ClipSimilarity(model=f"local-dir:{tmp_path}")
    with pytest.raises(BadInput, match="a folder is named local-dir:"):
        ClipSimilarity(model=str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(BadInput, match="has no 'model_cfg'"):
        ClipSimilarity(model=f"local-dir:{tmp_path}")
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
    with pytest.raises(BadInput, match="has no weights"):
        ClipSimilarity(model=f"local-dir:{tmp_path}")


def test_weights_that_cannot_be_loaded_are_named(tmp_path: Path) -> None:
    folder = save_clip(tmp_path)
    (folder / "open_clip_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(BadInput, match="cannot be loaded: "):
        ClipSimilarity(model=f"local-dir:{folder}").load()


@pytest.mark.parametrize(("model", "pretrained"), [
    ("hf-hub:nobody/nothing", None), ("ViT-B-32", "laion2b_s34b_b79k"),
])  # fmt: skip
def test_a_hub_out_of_reach_is_named(model: str, pretrained: str | None) -> None:
    plugin = ClipSimilarity(model=model, pretrained=pretrained)
    with pytest.raises(BadInput, match=r"cannot be loaded: .*; without the hub, give a folder") as caught:
        plugin.load()
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(BadInput, match=r"pip install 'mmrl\[clip\]'"):
        ClipSimilarity()
