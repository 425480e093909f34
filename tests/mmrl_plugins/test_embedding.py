import threading

import numpy as np

from mmrl_plugins._embedding import Embedder, cosine, embedder


def test_vectors_are_units_and_equal_texts_share_one() -> None:
    model = embedder("embedded", "cpu")
    found = model.encode(["a red ball", "a blue key", "a red ball"])
    assert found.shape == (3, 384)
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert np.array_equal(found[0], found[2])
    assert cosine(found[0], found[0]) == 1.0
    assert model.encode([]).shape[0] == model.encode_once([]).shape[0] == 0
    assert np.allclose(model.encode_once(["a blue key"])[0], found[1], atol=1e-5)


def test_one_model_a_process() -> None:
    assert embedder("embedded", "cpu") is embedder("embedded", "cpu")


def test_the_texts_used_longest_ago_are_forgotten() -> None:
    model = Embedder("embedded", "cpu", kept=2)
    model.encode(["a", "b"])
    model.encode(["a"])
    model.encode(["c"])
    assert model.remembers("a")
    assert not model.remembers("b")
    assert model.remembers("c")
    assert len(model.encode(["d", "e", "f", "g"])) == 4


def test_threads_may_share_a_model() -> None:
    model = embedder("embedded", "cpu")
    texts = [f"sentence number {i}" for i in range(24)]
    expected = model.encode(texts)
    found: dict[int, np.ndarray] = {}

    def use(i: int) -> None:
        found[i] = model.encode([texts[i], f"another {i}"])[0]

    threads = [threading.Thread(target=use, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], expected[i]) for i in range(24))
