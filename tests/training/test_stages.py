"""The last stages of a network, trained on what is kept of the stages below."""

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import SMALL_CNN, TIMM, UNCHANGED, candidate, draw, samples

from pipeline import FieldmarkError, config
from pipeline.features import engine
from pipeline.features.backbones import Pretrained
from pipeline.features.stages import Lower, Upper, stages
from pipeline.training import network
from pipeline.training.classifier import Classifier
from pipeline.training.fit import Fitted, fit

EIGHT = [0, 1, 0, 1, 0, 1, 0, 1]
TUNED = candidate(TIMM, trained_stages=1, average_views=True, epochs=6)


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))


def fitted(**changes: object) -> Fitted:
    eight = samples(EIGHT, images=draw(EIGHT, px=32))
    winner = TUNED.model_copy(update=changes)
    return fit(winner, eight, eight, symmetry="flip", policy=UNCHANGED, seed=0)


def timm_network(name: str = "test_resnet", **settings: object) -> Pretrained:
    torch.manual_seed(0)
    return Pretrained(name, weights="random", taps=2, pools=("avg", "max"), **settings).eval()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("trained", [1, 2])
def test_the_two_parts_together_are_the_whole(name: str, trained: int) -> None:
    whole = timm_network(name)
    images = torch.from_numpy(draw(EIGHT, px=64))
    lower = Lower(whole, trained)
    upper = Upper(lower, 64)
    with torch.no_grad():
        expected = whole(images)
        torch.testing.assert_close(upper(lower(images).float()), expected, rtol=0.02, atol=0.02)


def test_a_network_that_is_no_row_of_stages_is_not_cut() -> None:
    with pytest.raises(FieldmarkError, match="null trains all of it"):
        Upper(Lower(timm_network("test_vit", input_px=160), 1), 160)


@pytest.mark.parametrize("extractor, trained", [(SMALL_CNN, 1), (TIMM, 99)])
def test_what_has_no_such_stages_says_so(extractor: dict[str, object], trained: int) -> None:
    with pytest.raises(FieldmarkError, match="trained_stages is"):
        Lower(config.build(extractor, "candidate"), trained)


def test_only_the_last_stage_learns_and_what_is_served_is_what_was_judged() -> None:
    seen, images = fitted(), list(draw(EIGHT, px=32))
    np.testing.assert_allclose(network.logits(seen.network, images), seen.val_logits, atol=0.05)
    assert seen.history[-1]["val/accuracy"] == 1.0
    hardly = fitted(fit=TUNED.fit.model_copy(update={"backbone_lr_scale": 1e-9}))
    pairs = zip(seen.network.named_parameters(), hardly.network.named_parameters(), strict=True)
    moved = {name for (name, one), (_, two) in pairs if (one - two).abs().max() > 1e-5}
    assert {name.split(".")[2] for name in moved if name.startswith("extractor")} == {"layer1"}


def test_what_lies_below_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fitted()
    monkeypatch.setattr(engine, "run", lambda *_: pytest.fail("computed again"))
    again = fitted()
    assert np.array_equal(first.val_logits, again.val_logits)


def test_earlier_stages_learn_more_slowly() -> None:
    whole = timm_network()
    settings = TUNED.fit.model_copy(
        update={"lr": 1.0, "backbone_lr_scale": 0.1, "stage_lr_decay": 0.5}
    )
    net = torch.nn.Sequential(whole, torch.nn.Linear(8, 2))
    module = Classifier(net, settings, total_steps=10, backbone=stages(whole))
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {p: group["max_lr"] for group in groups for p in group["params"]}
    assert rates[net[1].weight] == 1.0
    last, before = (next(stage[0].parameters()) for stage in stages(whole)[:2])
    assert (rates[last], rates[before]) == (0.1, 0.05)
