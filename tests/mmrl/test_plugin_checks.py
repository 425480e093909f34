"""The suite over reward plugins: a sound one passes, and each deliberate fault is caught by the checks that should."""

import json
import pickle
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from broken_plugins import (
    AboveRange,
    AsyncScratch,
    Backtracks,
    Clock,
    CountsCalls,
    GlobalNumpy,
    GlobalRandom,
    HangsOnBlanks,
    HugeInfo,
    Infinite,
    MarksTurns,
    NanInInfo,
    NeverApplies,
    Noise,
    NoList,
    NotANumber,
    OnePotentialTooFew,
    OneScoreTooFew,
    OneShareTooMany,
    RaisesOnChinese,
    RaisesWhenNested,
    RaisesWithoutReference,
    RanksItsBatch,
    RemembersByQuestion,
    ReturnsText,
    SaysNoReason,
    Scratch,
    SeedsTorch,
    SetInInfo,
    SharesAreValues,
    SortsItsBatch,
    SortsReferences,
    Sound,
    SoundAsync,
    SoundPotential,
    SoundTurns,
    StacksItsBatch,
    ValidAndNotApplicable,
    WrongKindInList,
    value_of,
)
from reward_tools import batched

from mmrl import RewardPlugin, Score, Trajectory
from mmrl.caller import Overdue
from mmrl.plugin_conformance import CHECKS, PluginCheck, check_plugin, run_check
from mmrl.plugin_episodes import Own, hard, hard_texts, ordinary, small
from mmrl.plugin_trial import Trial, limited


@pytest.fixture(autouse=True)
def same_generators() -> Iterator[None]:
    """Broken plugins draw from global generators; the next test shall not notice."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])


THREE = {"same_twice", "same_in_any_order", "same_in_threads"}
BROKEN: list[tuple[type[RewardPlugin], set[str], str, str]] = [
    (RaisesOnChinese, {"valid_or_says_why", "survives_hard_text"}, "valid_or_says_why", "in Chinese: UnicodeError: "),
    (RaisesWhenNested, {"survives_hard_text"}, "survives_hard_text", "open brackets: RecursionError"),
    (RaisesWithoutReference, {"valid_or_says_why"}, "valid_or_says_why", "'NoneType' object has no attribute 'strip'"),
    (ReturnsText, {"valid_or_says_why"}, "valid_or_says_why", "TypeError: compute() returns a float"),
    (SaysNoReason, {"valid_or_says_why"}, "valid_or_says_why", "no info['reason'] says why (and "),
    (ValidAndNotApplicable, {"valid_or_says_why"}, "valid_or_says_why", "valid is True and status is 'not_applicable'"),
    (AboveRange, {"stays_in_range"}, "stays_in_range", "the value 5.001 is outside the declared range [0, 1] (and "),
    (NotANumber, {"stays_in_range"}, "stays_in_range", "empty answer, reference a text: the value is nan"),
    (Infinite, {"stays_in_range"}, "stays_in_range", "the value is inf"),
    (OneScoreTooFew, {"one_score_each"}, "one_score_each", "score() returned 2 scores for 3 episodes"),
    (NoList, {"one_score_each"}, "one_score_each", "score() returned a Score, not a list of scores"),
    (WrongKindInList, {"one_score_each", "same_in_a_batch"}, "one_score_each", "score() returned 'high' among the sc"),
    (SharesAreValues, {"shares_add_up"}, "shares_add_up", "agent, solved: the shares add up to"),
    (OneShareTooMany, {"shares_add_up"}, "shares_add_up", "2 shares for 1 turns"),
    (OnePotentialTooFew, {"shares_add_up"}, "shares_add_up", "agent, solved: 1 shares for 4 turns"),
    (Noise, THREE, "same_twice", "the second time"),
    (Clock, {"same_twice"}, "same_twice", "info was {'at': "),
    (CountsCalls, THREE, "same_twice", "right answer, reference a text: 1 at first, 0.0"),
    (RanksItsBatch, {"same_in_a_batch"}, "same_in_a_batch", "in a batch of "),
    (SortsItsBatch, {"same_in_a_batch"}, "same_in_a_batch", "in a batch of "),
    (StacksItsBatch, {"same_in_a_batch"}, "same_in_a_batch", "episodes at once: ValueError: all input arrays"),
    (Scratch, {"same_in_threads"}, "same_in_threads", "while 8 threads score"),
    (AsyncScratch, {"same_in_threads"}, "same_in_threads", "while 8 threads score"),
    (MarksTurns, {"changes_nothing"}, "changes_nothing", "turns[0].info was {'valid_action': True"),
    (SortsReferences, {"changes_nothing"}, "changes_nothing", "reference was ['4', 'four'] and is ['four', '4']"),
    (SetInInfo, {"info_is_json"}, "info_is_json", "info['letters'] is no JSON: Object of type set"),
    (NanInInfo, {"info_is_json"}, "info_is_json", "info['probability'] is no JSON: Out of range float"),
    (HugeInfo, {"info_is_json"}, "info_is_json", "200,000 characters: info['answer'] takes 2000"),
    (GlobalRandom, {"no_global_random"}, "no_global_random", "the state of random changed"),
    (GlobalNumpy, {"no_global_random"}, "no_global_random", "the state of numpy.random changed"),
    (SeedsTorch, {"no_global_random"}, "no_global_random", "the state of torch changed"),
    (NeverApplies, {"something_applies"}, "something_applies", "the check has shown nothing; try --reference/--kwargs"),
]


def failed(results: Sequence[PluginCheck]) -> set[str]:
    return {r.name for r in results if r.outcome == "failed"}


def detail(results: Sequence[PluginCheck], name: str) -> str:
    return next(r.detail for r in results if r.name == name)


@pytest.mark.parametrize("make", [Sound, SoundAsync, SoundTurns, SoundPotential])
def test_a_sound_plugin_passes(make: type[RewardPlugin]) -> None:
    results = check_plugin(make)
    assert [r.name for r in results] == list(CHECKS)
    assert [r for r in results if r.outcome == "failed"] == []
    skipped = [r.name for r in results if r.outcome == "skipped"]
    assert skipped == ([] if make is SoundTurns else ["same_in_a_batch"])


@pytest.mark.parametrize(("make", "names", "name", "message"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_plugin_is_caught_by_the_checks_that_should(
    make: type[RewardPlugin], names: set[str], name: str, message: str
) -> None:
    results = check_plugin(make)
    assert failed(results) == names
    assert message in detail(results, name)


def test_a_cache_with_too_small_a_key_shows_when_the_order_changes() -> None:
    # Threads may or may not come in the first order.
    assert failed(check_plugin(RemembersByQuestion)) - {"same_in_threads"} == {"same_in_any_order"}


def test_what_cannot_be_checked_after_a_fault_is_skipped() -> None:
    outcomes = Counter(r.outcome for r in check_plugin(NoList))
    assert outcomes == {"failed": 1, "skipped": len(CHECKS) - 1}
    results = check_plugin(OneScoreTooFew)
    assert [r for r in results if r.outcome == "skipped"] == [
        PluginCheck("same_in_a_batch", "skipped", "score() does not give one score an episode: see one_score_each")
    ]


@pytest.mark.parametrize(
    ("make", "name"), [(Backtracks, "200,000 letters without a space"), (HangsOnBlanks, "50,000 lines")]
)
def test_an_answer_that_takes_for_ever_is_ended(make: type[RewardPlugin], name: str) -> None:
    results = check_plugin(make, limit_s=0.5)
    assert failed(results) == {"survives_hard_text"}
    assert detail(results, "survives_hard_text") == f"{name}: Overdue: no answer after 0.5 s"


def test_a_plugin_that_hangs_on_everything_is_asked_no_more() -> None:
    class Hangs(Sound):
        def compute(self, response: str) -> float:
            threading.Event().wait()
            return 0.0

    results = check_plugin(Hangs, limit_s=0.1)
    assert failed(results) == {"valid_or_says_why"}
    assert detail(results, "valid_or_says_why") == "right answer, reference a text: Overdue: no answer after 0.3 s"
    assert detail(results, "same_twice") == "the plugin hangs on the episode 'right answer, reference a text'"


def test_threads_that_wait_for_each_other_are_not_waited_for() -> None:
    class Deadlock(Sound):
        def compute(self, response: str) -> float:
            if threading.current_thread() is not threading.main_thread():
                threading.Event().wait()
            return value_of(response)

    results = check_plugin(Deadlock, limit_s=0.2)
    assert failed(results) == {"same_in_threads"}
    assert detail(results, "same_in_threads") == "8 answers at once took longer than 0.2 s"


def test_the_time_limit_off_the_main_thread_and_what_it_leaves_behind() -> None:
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            limited(threading.Event().wait, 0.05)
        except Overdue as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert [str(error) for error in caught] == ["no answer after 0.05 s"]
    assert limited(lambda: 7, 0.01) == 7
    time.sleep(0.03)  # the alarm does not ring any more
    with pytest.raises(ZeroDivisionError):
        limited(lambda: 1 / 0, 1.0)


class Rounds(SoundTurns):
    """What it says in a batch differs by rounding."""

    def score(self, trajectories: Sequence[Trajectory]) -> Any:  # type: ignore[override]
        return [Score(0.5 + 1e-7 * (len(trajectories) > 1)) for _ in trajectories]


def test_rounding_is_allowed_where_a_model_computes() -> None:
    class Model(Rounds):
        cost: ClassVar[str] = "one model call a batch"

    results = check_plugin(Model)
    assert failed(results) == set()
    assert detail(results, "same_in_a_batch") == "greatest difference 1e-07"
    results = check_plugin(Rounds)
    assert failed(results) == {"same_in_a_batch"}
    said = "if a model computes it, say in `cost` what it costs, and rounding is allowed"
    assert detail(results, "same_in_a_batch").endswith(said)


def test_notes() -> None:
    results = check_plugin(Sound)
    assert detail(results, "stays_in_range") == f"seen: 0 to {6 / 7:g}"
    assert detail(results, "valid_or_says_why") == ""
    assert detail(results, "shares_add_up").startswith("none are given")
    assert detail(results, "survives_hard_text").startswith(("at most ", "slow: at most "))
    assert detail(results, "info_is_json") == f"at most {len(json.dumps({'reason': 'the episode has no turns'}))} bytes"
    in_batches = check_plugin(lambda: batched(lambda ts: [Score(0.5)] * len(ts)))
    assert detail(in_batches, "valid_or_says_why").startswith("an episode without turns gets a value too")
    results = check_plugin(SoundPotential)
    assert detail(results, "stays_in_range").startswith("the declared range [-inf, inf] is open")
    assert detail(results, "shares_add_up") == "they are potentials, which need not add up"
    assert detail(check_plugin(SoundTurns), "something_applies").startswith("39 of 41 ordinary episodes")


def test_a_plugin_that_raises_when_made_fails_every_check() -> None:
    class Unmade(Sound):
        def __init__(self) -> None:
            raise OSError("no model")

    assert run_check("same_twice", Trial(Unmade)) == PluginCheck("same_twice", "failed", "OSError: no model")


class BySolution(Sound):
    """References are objects of its own."""

    def compute(self, response: str, reference: Any) -> float:
        return float(response == reference["solution"])


def test_a_reference_of_the_users_own_kind() -> None:
    assert failed(check_plugin(BySolution)) == {"valid_or_says_why", "survives_hard_text"}
    assert failed(check_plugin(BySolution, Own(reference={"solution": "4"}))) == set()


def test_own_words_take_the_place_of_the_suites() -> None:
    own = Own("Which?", "That one.", ["this", "that"])
    for made in (small(own), ordinary(own)):
        yours = made["yours"]
        assert (yours.sample.query, yours.response, yours.sample.reference) == ("Which?", "That one.", ["this", "that"])
        assert {t.sample.query for t in made.values()} <= {"Which?", ""}
        references = [t.sample.reference for t in made.values()]
        assert all(r in (None, ["this", "that"]) for r in references)
        assert None in references
    assert small(own)["right answer"].response == "this"
    assert "yours" not in small(Own("Which?"))
    assert all(t.sample.reference == ["this", "that"] for t in hard(own).values())


def test_episodes_are_of_all_kinds_and_made_anew() -> None:
    made = ordinary()
    assert pickle.loads(pickle.dumps(made)) == made == ordinary()
    assert ordinary()["agent, solved"].turns[0].info is not made["agent, solved"].turns[0].info
    kinds = {type(t.sample.reference) for t in made.values()}
    assert kinds == {str, int, list, type(None)}
    assert {len(t.turns) for t in made.values()} == {0, 1, 4, 12}
    keys = {key for t in made.values() for turn in t.turns for key in turn.info}
    assert keys >= {"success", "valid_action", "action_cost", "state_key", "potential", "unsafe", "expert_steps"}
    assert any(t.truncated for t in made.values())
    assert any(turn.token_ids for t in made.values() for turn in t.turns)
    images = [t for t in made.values() if any(m.images for m in t.messages)]
    assert 3 < len(images) < len(made) - 3
    assert any(m.videos for t in made.values() for m in t.messages)
    assert {i.size for t in images for m in t.messages for i in m.images} == {(6, 4), (64, 48)}


def test_hard_texts_are_each_asked_alone_and_everywhere() -> None:
    made, texts = hard(), hard_texts()
    assert not set(made) & set(ordinary())
    assert list(made) == [name for text in texts for name in (text, f"{text}, everywhere")]
    assert len(texts["200,000 characters"]) == len(texts["200,000 letters without a space"]) == 200_000
    assert any("\ud800" in text for text in texts.values())
    t = made["Chinese, everywhere"]
    assert t.sample.query == t.sample.reference == t.response == t.turns[0].response == texts["Chinese"]
    assert made["Chinese"].sample.reference == "4"
