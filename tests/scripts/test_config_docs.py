from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date():
    script = runpy.run_path(str(ROOT / "scripts" / "config_docs.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run `make docs`"


def test_every_section_of_the_configuration_is_on_the_page():
    script = runpy.run_path(str(ROOT / "scripts" / "config_docs.py"))
    from mmrl import config

    models = {m for m in vars(config).values() if isinstance(m, type) and issubclass(m, config.Section)}
    assert models - {config.Section} <= set(script["SECTIONS"].values())
