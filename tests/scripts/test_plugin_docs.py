import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "plugin_docs.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run `make docs`"


def test_words() -> None:
    from mmrl_plugins.action_cost import ActionCost
    from mmrl_plugins.exact_match import ExactMatch

    script = runpy.run_path(str(ROOT / "scripts" / "plugin_docs.py"))
    assert script["bounds"](ActionCost) == "up to 0"
    assert (script["needs"](ExactMatch), script["needs"](ActionCost)) == ("reference", "-")
    assert script["arguments"](ActionCost).startswith("`per_action` (1.0), `per_invalid` (0.0)")
