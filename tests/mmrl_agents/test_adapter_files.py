import json
from pathlib import Path

from mmrl.training_args import LoraArgs
from mmrl_agents.adapter_files import adapter_of
from mmrl_agents.models import ModelFiles
from mmrl_agents.vllm_args import Adapter


def test_a_fresh_adapter_is_known_by_its_configuration(tiny: Path) -> None:
    files = ModelFiles("mine", str(tiny))
    assert adapter_of(files, None) is None
    assert adapter_of(files, LoraArgs(r=4, rslora=True)) == Adapter(4)
    assert adapter_of(files, LoraArgs(r=4, dora=True)) == Adapter(4, "DoRA")
    both = Adapter(4, "DoRA or an adapter on a vision tower")
    assert adapter_of(files, LoraArgs(r=4, dora=True, vision=True)) == both


def test_a_ready_adapter_is_known_by_its_folder(tiny: Path, tmp_path: Path) -> None:
    config = {"r": 6, "use_dora": False, "modules_to_save": ["lm_head"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    files = ModelFiles("mine", str(tiny), str(tmp_path))
    assert adapter_of(files, LoraArgs(r=4)) == Adapter(6, "an adapter with whole modules")
