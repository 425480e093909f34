import resource
from pathlib import Path

import pytest
import torch
from learner_tools import llama, lora
from safetensors.torch import load_file

from mmrl.errors import RunStopped
from mmrl_agents.handover import Handover, Version


def test_an_adapter_goes_over_alone(tmp_path: Path) -> None:
    handover = Handover(tmp_path / "sampler", "mmrl-a", adapter=True)
    made = handover.next(3)
    assert made == Version("mmrl-a-0", (tmp_path / "sampler" / "mmrl-a-0").absolute(), 3)
    handover.write(made, lora(llama(), trained=True))
    found = load_file(made.folder / "adapter_model.safetensors")
    assert found
    assert all(".lora_" in name for name in found)


def test_all_weights_go_over_with_the_adapter_merged_in(tmp_path: Path) -> None:
    model = lora(llama(dtype=torch.float32), trained=True)
    handover = Handover(tmp_path, "mmrl-a", adapter=False)
    handover.write(made := handover.next(0), model)
    again = type(llama()).from_pretrained(made.folder)
    ids = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model.eval()(ids).logits, atol=1e-5, rtol=0)
        with model.disable_adapter():
            assert not torch.allclose(again(ids).logits, model(ids).logits, atol=1e-2)


def test_one_version_is_kept_and_at_last_none(tmp_path: Path) -> None:
    handover, model = Handover(tmp_path / "s", "mmrl-a", adapter=True), lora(llama())
    (tmp_path / "s" / "mmrl-b-7").mkdir(parents=True)  # another run's
    for _ in range(3):  # a warm start changes weights of the same number
        handover.write(newest := handover.next(0), model)
    handover.keep(newest)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["mmrl-a-2", "mmrl-b-7"]
    handover.clear()
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["mmrl-b-7"]
    (tmp_path / "s" / "mmrl-b-7").rmdir()
    handover.clear()
    assert not (tmp_path / "s").exists()


def test_a_disk_that_refuses_stops_the_run_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    handover = Handover(tmp_path / "file", "mmrl-a", adapter=True)
    with pytest.raises(RunStopped, match=r"cannot write weights for the servers to .*mmrl-a-0: .*; what was written"):
        handover.write(handover.next(1), lora(llama()))


def test_a_disk_that_is_full_stops_the_run_in_one_line(tmp_path: Path) -> None:
    handover, model = Handover(tmp_path, "mmrl-a", adapter=False), lora(llama(), trained=True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))  # more than a config, less than weights
    try:
        with pytest.raises(RunStopped, match=r"mmrl-a-0: .*File too large.*; what was written is intact"):
            handover.write(handover.next(1), model)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
