"""What a network answers to altered images is what it answers to each of them, and is kept."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.special import softmax
from toys import SMALL_CNN, candidate, draw

from pipeline.evaluation.alterations import PARTS, Alteration
from pipeline.training import answers, network
from pipeline.training.network import Network
from pipeline.training.samples import Samples

LABELS = [0, 1, 2, 0, 1]
CHANGES: dict[str, Alteration] = {
    name: PARTS[name] for name in ("border_alone", "shuffled_patches")
}


@pytest.fixture
def trained() -> Network:
    torch.manual_seed(0)
    made = network.build(candidate(SMALL_CNN), n_classes=3, size_px=32, symmetry="none").eval()
    made.get_buffer("temperature").fill_(1.7)
    return made


def images(labels: Sequence[int] = LABELS) -> Samples:
    n = len(labels)
    place = np.stack([np.zeros(n, np.int64), np.arange(n)], axis=1)
    targets = np.eye(3, dtype=np.float32)[[*labels]]
    return Samples((draw([*labels], px=32),), place, targets, np.array(labels))


def test_each_answer_is_that_of_the_network_to_the_altered_image(trained: Network) -> None:
    probs = answers.altered(trained, images(), CHANGES, seed=3)
    assert [*probs] == [*CHANGES]
    for number, (name, change) in enumerate(CHANGES.items()):
        changed = np.stack(
            [change(each, np.random.default_rng([3, number, i])) for i, each in enumerate(images())]
        )
        with torch.inference_mode():
            expected = softmax(trained(torch.from_numpy(changed)).double().numpy(), axis=1)
        np.testing.assert_allclose(probs[name], expected, atol=1e-4)


def test_answers_are_computed_once_and_again_for_another_network(
    trained: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answers.altered(trained, images(), CHANGES, seed=3)
    runs: list[int] = []
    run = answers.engine.run
    monkeypatch.setattr(answers.engine, "run", lambda *given: runs.append(1) or run(*given))
    again = answers.altered(trained, images(), CHANGES, seed=3)
    assert not runs
    assert all((again[name] == first[name]).all() for name in CHANGES)
    trained.get_buffer("temperature").fill_(0.5)
    other = answers.altered(trained, images(), CHANGES, seed=3)
    assert runs and (other["border_alone"] != first["border_alone"]).any()
