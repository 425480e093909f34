import json
import shutil
from pathlib import Path

import pytest
import torch
from learner_tools import lora

from mmrl.errors import BadInput
from mmrl_agents.models import ModelFiles, embedded_models, find_model, load_model, load_processing


def adapter(tiny: Path, folder: Path, base: str | None = None) -> Path:
    model = lora(load_model(find_model(str(tiny))), trained=True)
    model.peft_config["default"].base_model_name_or_path = base or str(tiny)
    model.save_pretrained(folder)
    return folder


def test_a_folder_is_a_model(tiny: Path) -> None:
    files = find_model(str(tiny))
    assert files == ModelFiles(str(tiny), str(tiny), None)
    model = load_model(files)
    assert (model.dtype, model.device.type) == (torch.float32, "cuda" if torch.cuda.is_available() else "cpu")
    assert load_model(files, "bfloat16", "cpu").dtype == torch.bfloat16


def test_an_adapter_folder_names_its_base(tiny: Path, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "adapter")
    files = find_model(str(folder))
    assert files == ModelFiles(str(folder), str(tiny), str(folder))
    ids = torch.tensor([[7, 8, 9]])
    frozen, trained = load_model(files), load_model(files, trainable=True)
    base = load_model(find_model(str(tiny)))
    assert not any(p.requires_grad for p in frozen.parameters())
    assert {n for n, p in trained.named_parameters() if p.requires_grad} == {
        n for n, _ in trained.named_parameters() if "lora_" in n
    }
    assert torch.equal(frozen(input_ids=ids).logits, trained(input_ids=ids).logits)
    assert not torch.allclose(frozen(input_ids=ids).logits, base(input_ids=ids).logits)


def test_an_adapter_on_a_missing_base_says_where(tiny: Path, tmp_path: Path) -> None:
    folder = adapter(tiny, tmp_path / "adapter", "mmrl/gone")
    with pytest.raises(BadInput, match=r"adapter: unknown model 'mmrl/gone'"):
        find_model(str(folder))


def test_a_run_folder_gives_its_best_policy_else_the_final(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run / "final")
    assert find_model(str(run)) == ModelFiles(str(run), str(run / "final"))
    adapter(tiny, run / "best")
    assert find_model(str(run)) == ModelFiles(str(run), str(tiny), str(run / "best"))


def test_an_unknown_embedded_model_names_the_nearest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                     tiny: Path) -> None:
    monkeypatch.setattr("mmrl_agents.models.resources.files", lambda _: tmp_path)
    shutil.copytree(tiny, tmp_path / "tiny")
    (tmp_path / "pictures").mkdir()
    assert embedded_models() == ["mmrl/tiny"]
    assert find_model("mmrl/tiny").base == str(tmp_path / "tiny")
    with pytest.raises(BadInput) as error:
        find_model("mmrl/tinny", "run.yaml:3")
    assert str(error.value) == "run.yaml:3: unknown model 'mmrl/tinny'; did you mean 'mmrl/tiny'?"


@pytest.mark.parametrize(("name", "said"), [
    ("runs/x/fnal", "; did you mean 'runs/x/final'?"), ("./runs/x/wam", "; did you mean 'runs/x/warm'?"),
    ("runs/no/final", ""), ("~no_one_here/x", ""), ("/" + "x" * 300, ""),
    ("https://huggingface.co/org/name", "; write a hub's id as org/name"),
])  # fmt: skip
def test_a_path_is_not_sought_on_the_hub(name: str, said: str, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.delattr("mmrl_agents.models._on_hub")
    monkeypatch.chdir(tmp_path)
    for folder in ("final", "warm", "wat"):
        (tmp_path / "runs" / "x" / folder).mkdir(parents=True)
    for folder in ("final", "warm"):
        (tmp_path / "runs" / "x" / folder / "config.json").touch()
    with pytest.raises(BadInput) as error:
        find_model(name, "run.yaml:3")
    assert str(error.value) == f"run.yaml:3: model '{name}': no such folder{said}"


def test_a_name_that_is_no_path_may_be_a_run_mistyped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "short" / "final").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"unknown model 'runs/shrt': .* did you mean 'runs/short'\?$"):
        find_model("runs/shrt")


@pytest.mark.parametrize(("name", "hint"), [("randon", "did you mean 'random'?"), ("no/where", "no such folder")])
def test_an_unknown_name_says_what_would_be_right(name: str, hint: str) -> None:
    with pytest.raises(BadInput) as error:
        find_model(name, "run.yaml:3")
    assert str(error.value).startswith(f"run.yaml:3: unknown model '{name}': no such folder")
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_model_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has neither config\.json nor adapter_config\.json"):
        find_model(str(tmp_path))


def test_a_tokenizer_without_a_template_is_bad_input(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="has no chat template; use an instruction-tuned model"):
        load_processing(find_model(str(folder)))


def test_broken_weights_and_unknown_dtypes_are_bad_input(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown dtype 'float31'; did you mean 'float32'"):
        load_model(find_model(str(tiny)), "float31")
    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="cannot be loaded as a causal language model"):
        load_model(find_model(str(folder)))
    (folder / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    with pytest.raises(BadInput, match=r"its configuration cannot be read: .*nonsense"):
        load_model(find_model(str(folder)))
