import subprocess
import sys
import threading

import pytest

from mmrl_plugins._lazy import Once, first_line, torch_device, utf8


def test_threads_make_a_value_once() -> None:
    made: list[int] = []
    once: Once[int] = Once()
    barrier = threading.Barrier(8)

    def use() -> None:
        barrier.wait()
        once.get("a", lambda: made.append(1) or len(made))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert once.get("b", lambda: 7) == 7


def test_a_failure_is_tried_again() -> None:
    once: Once[int] = Once()

    def fail() -> int:
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        once.get("a", fail)
    assert once.get("a", lambda: 3) == 3


def test_devices() -> None:
    assert torch_device("cpu") == "cpu"
    assert torch_device("auto") in ("cpu", "cuda", "mps")


def test_small_helpers() -> None:
    assert first_line(OSError("\nfirst\nsecond")) == "first"
    assert first_line(OSError()) == "OSError"
    assert utf8("a\ud800é") == "a?é"


def test_importing_and_constructing_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mmrl_plugins.safety import Safety; from mmrl_plugins.relevance import Relevance;"
        "from mmrl_plugins.factuality import Factuality; Safety(); Relevance(); Factuality('sample');"
        "heavy = {'torch', 'transformers', 'sklearn', 'sentence_transformers', 'profanity_check'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
