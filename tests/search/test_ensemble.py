"""The best candidates together, as one more candidate."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from toys import HOG, SMALL_CNN, UNCHANGED, candidate, draw, samples

from pipeline.exported import write
from pipeline.search import ensemble
from pipeline.training import density, network
from pipeline.training.fit import Fitted, fit

EIGHT = [0, 1, 0, 1, 0, 1, 0, 1]
VIEWS = candidate(HOG, frozen=True, average_views=True, head={"kind": "logistic"})
CNN = candidate(SMALL_CNN, epochs=1)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fitted, list[Fitted]]:
    """An ensemble of a frozen extractor over two views and of a small network; its members alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIELDMARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("FIELDMARK_WORKERS", "0")
        eight = samples(EIGHT)
        how: dict[str, Any] = {"symmetry": "flip", "policy": UNCHANGED, "seed": 0}
        alone = [fit(each, eight, eight, **how) for each in (VIEWS, CNN)]
        return fit(ensemble.of([VIEWS, CNN]), eight, eight, **how), alone


def probabilities(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        found: np.ndarray = torch.softmax(network(torch.from_numpy(images)), 1).numpy()
    return found


def test_it_answers_with_the_mean_of_its_members_probabilities(
    both: tuple[Fitted, list[Fitted]],
) -> None:
    images = draw(EIGHT, seed=1)
    mean = np.mean([probabilities(each.network, images) for each in both[1]], axis=0)
    np.testing.assert_allclose(probabilities(both[0].network, images), mean, atol=1e-5)


def test_saved_read_exported_and_kept_by_the_memo_it_is_the_same(
    both: tuple[Fitted, list[Fitted]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    images, joined = draw(EIGHT, seed=1), ensemble.of([VIEWS, CNN])
    both[0].network.get_buffer("temperature").fill_(1.5)
    expected = probabilities(both[0].network, images)
    network.save(both[0].network, joined, ["a", "b"], 16, tmp_path)
    read, winner, *_ = network.load(tmp_path)
    assert winner == joined
    kept = network.probabilities(read, samples(EIGHT, images=images))
    np.testing.assert_allclose(kept, expected, atol=1e-5)
    features = read.described(torch.from_numpy(images))[1].detach().numpy()
    strange = density.fit(features, components=2, sketch=16, seed=0)
    write.write_onnx(write.Deployed(read, strange), ["a", "b"], 16, 20, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    np.testing.assert_allclose(session.run(["probs"], {"images": images})[0], expected, atol=1e-5)


def test_as_a_trial_it_is_judged_once_on_the_mean(both: tuple[Fitted, list[Fitted]]) -> None:
    whole, alone = both
    logits = [torch.from_numpy(each.val_logits) for each in alone]
    np.testing.assert_allclose(whole.val_logits, network.mean_logits(logits).numpy(), atol=1e-5)
    assert [epoch["epoch"] for epoch in whole.history] == [0.0]
