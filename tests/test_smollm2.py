"""The same code and config on a real language model: SmolLM2-135M-Instruct, which ``make models`` brings."""

from pathlib import Path

import pytest
import torch
from learner_tools import run_config

from mmrl.report import Quiet
from mmrl.store import RunStore, read_trajectories
from mmrl_agents.batch import segments_of
from mmrl_agents.logprobs import Scorer
from mmrl_agents.models import find_model, load_model
from mmrl_agents.train import Grpo

MODEL = Path(__file__).resolve().parents[1] / ".cache" / "models" / "SmolLM2-135M-Instruct"


def gap(folder: Path, rollouts: Path) -> float:
    """The largest difference between the stored log-probabilities and those of the policy in ``folder``."""
    model = load_model(find_model(str(folder)))
    gaps = []
    for s in [s for i, t in enumerate(read_trajectories(rollouts)) for s in segments_of(t, i)]:
        mask = torch.tensor([s.mask[1:]])
        ids = torch.tensor([s.ids])
        with torch.no_grad():
            mine = Scorer(model.eval(), 0.9)(ids.to(model.device), mask.to(model.device))[0].cpu()[mask]
        gaps.append(float((mine - torch.tensor(s.mu[1:])[mask[0]]).abs().max()))
    return max(gaps)


def test_two_steps_of_grpo_with_lora(tmp_path: Path) -> None:
    if not (MODEL / "config.json").is_file():
        pytest.fail(f"no model in {MODEL}: run make models")
    loaded = run_config(
        tmp_path,
        environments=[{"id": "text/arithmetic", "seeds": {"count": 1}}],  # one prompt for both steps
        model_id=str(MODEL),  # type: ignore[arg-type]
        training_args={"max_steps": 2, "num_generations": 4, "gradient_accumulation_steps": 1, "lora": {"r": 8},
                       "kl_coef": 0.05, "learning_rate": 1e-3, "lr_scheduler_type": "constant"},
        rollout={"max_new_tokens": 10, "temperature": 0.9},
    )  # fmt: skip
    trainer = Grpo()
    trainer.check(loaded)
    root = trainer.train(loaded, False, Quiet())

    first, second = RunStore(root).metrics()
    assert [m["ratio_deviation"] for m in (first, second)] == [0.0, 0.0]
    assert first["kl"] == 0.0
    assert second["kl"] > 1e-5
    assert [m["update/not_finite"] for m in (first, second)] == [0.0, 0.0]
    assert first["grad_norm"] > 0.0
    assert first["no_spread"] == 0.0
    for m in (first, second):
        assert m["mismatch_kl"] == pytest.approx(0.0, abs=1e-6)

    # Step 1 was sampled by the base, step 2 by the updated weights, as the learner sees them; not by the old ones.
    updated = root / "checkpoints" / "step-1"
    assert gap(MODEL, root / "rollouts" / "step-000001.parquet") < 1e-4
    assert gap(updated, root / "rollouts" / "step-000002.parquet") < 1e-4
    assert gap(MODEL, root / "rollouts" / "step-000002.parquet") > 1e-2
    prompts = {t.turns[0].prompt_ids for t in read_trajectories(root)}
    assert len(prompts) == 1
