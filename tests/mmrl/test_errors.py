from mmrl.errors import nearest, unknown


def test_nearest_ignores_case_and_says_nothing_when_nothing_is_near() -> None:
    assert nearest("Enviroment", ["environment", "plugin"]) == "; did you mean 'environment'?"
    assert nearest("zzz", ["environment"]) == ""


def test_unknown_names_place_kind_name_and_nearest() -> None:
    error = unknown("plugin", "exact_mach", ["exact_match", "env_reward"], "c.yaml:7")
    assert str(error) == "c.yaml:7: unknown plugin 'exact_mach'; did you mean 'exact_match'?"


def test_unknown_lists_few_names_and_no_long_list() -> None:
    assert str(unknown("loss", "zzz", ["b", "a"])) == "unknown loss 'zzz'; known: a, b"
    assert str(unknown("loss", "zzz", [f"name{i}" for i in range(13)])) == "unknown loss 'zzz'"
