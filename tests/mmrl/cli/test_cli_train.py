"""``mmrl train`` with a learner that learns nothing: lines, interrupts, resume; and once with a real model."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_model import save_tiny_model

SCRIPT = Path(sys.executable).with_name("mmrl")
LEARNER = '''
import os, signal, time
from mmrl.errors import RunStopped
from mmrl.store import RunStore

class Fake:
    """Takes ``max_steps`` steps; ``model_id`` says what happens on the way."""

    def check(self, loaded):
        pass

    def train(self, loaded, resume, reporter):
        out, what = loaded.output_dir, loaded.config.model_id
        store = RunStore.open(out) if resume else RunStore.create(out, "x: 1")
        steps = loaded.config.training_args.max_steps
        if what == "early":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        for step in range(1, steps + 1):
            reporter.begin(f"step {step}: episodes", 4)
            if what == "full":
                raise RunStopped("disk full; the last checkpoint is intact")
            if step == 2 and what in ("int", "term", "twice"):
                os.kill(os.getpid(), signal.SIGTERM if what == "term" else signal.SIGINT)
            if step == 2 and what == "twice":
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            metrics = {"reward": 0.5, "success": 0.25} | ({"eval/success": 0.75} if step == 2 else {})
            reporter.step(step, steps, metrics)
            if reporter.stopping:
                raise KeyboardInterrupt
        (out / "final").mkdir()
        return out
'''
CONFIG = """\
train_type: learner.py:Fake
model_id: none
environments: [{id: text/arithmetic}]
training_args: {max_steps: 3}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "learner.py").write_text(LEARNER)
    (tmp_path / "run.yaml").write_text(CONFIG)
    return tmp_path


def in_process(folder: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run([SCRIPT, "train", *words], cwd=folder, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout, done.stderr


def test_one_line_a_step_and_where_the_run_lies(folder: Path, mmrl: Callable[..., Any]) -> None:
    code, out, err = mmrl("train", "run.yaml")
    assert (code, err) == (0, "")
    first, second, third, *rest = out.splitlines()
    assert first == "step 1/3  reward 0.50  success 25%  0.0 s  left 0:00"
    assert second == "step 2/3  reward 0.50  success 25%  eval 75%  0.0 s  left 0:00"
    assert third == "step 3/3  reward 0.50  success 25%  0.0 s  left 0:00"
    assert rest == [
        "run:         runs/run  (policy in final/)",
        "evaluate it: mmrl eval runs/run/config.yaml --policy runs/run/final",
        "watch it:    mmrl play runs/run/config.yaml --policy runs/run/final",
    ]


def test_outside_an_activated_environment_commands_have_the_scripts_path(folder: Path, mmrl: Callable[..., Any],
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert f"\nwatch it:    {SCRIPT} play runs/run/config.yaml --policy " in mmrl("train", "run.yaml").out


def test_an_existing_run_is_refused(folder: Path, mmrl: Callable[..., Any]) -> None:
    mmrl("train", "run.yaml")
    code, out, err = mmrl("train", "run.yaml")
    assert (code, out) == (2, "")
    assert err == (
        "mmrl: runs/run exists and is not empty; continue that run with --resume, or give another "
        "--output-dir\n"
    )


def test_a_folder_that_is_taken_is_said_before_anything_is_checked(folder: Path, mmrl: Callable[..., Any]) -> None:
    (folder / "taken").mkdir()
    (folder / "taken/file").touch()
    _, _, err = mmrl("train", "run.yaml", "environments.0.id=nowhere", "--output-dir", "taken")
    assert err.startswith("mmrl: taken exists and is not empty; continue that run with --resume")
    _, _, err = mmrl("train", "run.yaml", "environments.0.id=nowhere", "--output-dir", "taken", "--resume")
    assert err.startswith("mmrl: override 'environments.0.id=nowhere': unknown environment 'nowhere'")


def test_output_dir_and_overrides(folder: Path, mmrl: Callable[..., Any]) -> None:
    code, out, _ = mmrl("train", "run.yaml", "training_args.max_steps=1", "--output-dir", "2024: a")
    assert code == 0
    assert (folder / "2024: a" / "final").is_dir()
    assert out.splitlines()[0].startswith("step 1/1")


@pytest.mark.parametrize("what", ["int", "term"])
def test_an_interrupt_finishes_the_step_and_says_how_to_go_on(folder: Path, what: str) -> None:
    code, out, err = in_process(folder, "run.yaml", f"model_id={what}", "--output-dir", "my run")
    assert code == 130
    assert [line.split("  ")[0] for line in out.splitlines()] == ["step 1/3", "step 2/3"]
    assert err == (
        "\nfinishing this step; Ctrl-C again stops at once\n"
        f"stopped; to go on: mmrl train run.yaml model_id={what} --output-dir 'my run' --resume\n"
    )
    assert in_process(folder, "run.yaml", "--output-dir", "my run", "--resume")[0] == 0


def test_a_second_interrupt_stops_at_once(folder: Path) -> None:
    code, out, err = in_process(folder, "run.yaml", "model_id=twice")
    assert code == 130
    assert len(out.splitlines()) == 1
    assert err.endswith("stopped; to go on: mmrl train run.yaml model_id=twice --resume\n")


def test_an_interrupt_before_the_first_step_stops_at_once(folder: Path) -> None:
    code, out, err = in_process(folder, "run.yaml", "model_id=early")
    assert (code, out) == (130, "")
    assert err == "\nstopped; to go on: mmrl train run.yaml model_id=early --resume\n"


def test_a_full_disk_is_exit_code_1(folder: Path, mmrl: Callable[..., Any]) -> None:
    assert mmrl("train", "run.yaml", "model_id=full") == (1, "", "mmrl: disk full; the last checkpoint is intact\n")


def test_handlers_are_put_back(folder: Path, mmrl: Callable[..., Any]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    mmrl("train", "run.yaml")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_real_run_is_interrupted_resumed_evaluated(tmp_path: Path, mmrl: Callable[..., Any]) -> None:
    save_tiny_model(tmp_path / "model")
    (tmp_path / "run.yaml").write_text(
        "train_type: GRPO\nmodel_id: model\nenvironments: [{id: text/arithmetic}]\n"
        "reward_plugins: [{name: number_match}]\n"
        "training_args: {num_generations: 4, per_device_train_batch_size: 4, max_minutes: 0.05}\n"
        "rollout: {max_new_tokens: 4}\neval: {episodes: 0, final_episodes: 2}\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [SCRIPT, "train", "run.yaml", "rollout.temperature=0.9"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step 1/"):
                time.sleep(0.02)
                process.send_signal(signal.SIGINT)
                break
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("stopped; to go on: mmrl train run.yaml rollout.temperature=0.9 --resume\n")
    assert len(list((tmp_path / "runs/run/checkpoints").iterdir())) == 1

    code, out, _ = mmrl("train", "run.yaml", "rollout.temperature=0.9", "--resume")
    assert code == 0
    assert out.startswith("resuming after step ")
    assert (tmp_path / "runs/run/final/config.json").is_file()
    code, out, _ = mmrl("eval", "run.yaml", "--policy", "runs/run", "--episodes", "2", "--json")
    assert (code, out[:7]) == (0, '{"env":')


def test_the_last_lines_of_a_run_evaluate_and_show_what_it_trained_on(tmp_path: Path, mmrl: Callable[..., Any]) -> None:
    save_tiny_model(tmp_path / "model")
    (tmp_path / "run.yaml").write_text(
        "train_type: GRPO\nmodel_id: model\nenvironments: [{id: text}, {id: text/arithmetic}]\n"
        "reward_plugins: [{name: env_reward}]\n"
        "training_args: {num_generations: 2, per_device_train_batch_size: 2, max_steps: 1}\n"
        "rollout: {max_new_tokens: 4}\neval: {episodes: 0, final_episodes: 0}\n"
    )
    (tmp_path / "mine.jsonl").write_text('{"question": "Who is it?", "answer": "me"}\n')
    code, out, _ = mmrl("train", "run.yaml", "environments.0.kwargs.path=mine.jsonl", "--output-dir", "my run")
    assert code == 0
    last = dict(line.split(":", 1) for line in out.splitlines()[-2:])
    assert (code, shlex.split(last["watch it"])[:3]) == (0, ["mmrl", "play", "my run/config.yaml"])
    code, out, _ = mmrl(*shlex.split(last["watch it"])[1:])
    assert (code, out.splitlines()[:2]) == (0, ["[user]", "Who is it?"])
    code, out, _ = mmrl(*shlex.split(last["evaluate it"])[1:], "--episodes", "2", "--json")
    assert [r["env"] for r in json.loads(out)["results"]] == ["text", "text/arithmetic"]
