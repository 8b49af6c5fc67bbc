import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorch_lightning import seed_everything
from safetensors.torch import load_file, save_file
from sklearn.svm import LinearSVC
from toys import HOG, SMALL_CNN, TIMM, UNCHANGED, candidate, draw, samples

from pipeline import FieldmarkError
from pipeline.config.schema import Candidate
from pipeline.training import augmentation, classifier, network
from pipeline.training.augmentation import Policy
from pipeline.training.epochs import Diverged, validation
from pipeline.training.fit import Fitted
from pipeline.training.fit import fit as fit_candidate
from pipeline.training.network import logits
from pipeline.training.refit import temperature
from pipeline.training.samples import Samples

EIGHT = [0, 1, 0, 1, 0, 1, 0, 1]
SMALL = candidate(SMALL_CNN, epochs=3)
FROZEN = candidate(HOG, frozen=True, head={"kind": "mlp", "hidden": 8}, epochs=3)
SVM = candidate(HOG, frozen=True, head={"kind": "svm", "C": 0.1})
TURNS = augmentation.from_nodes([{"_target_": "albumentations.D4", "p": 1.0}])


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def _quick(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of the same images are computed once a module; images are loaded without another
    process.
    """
    monkeypatch.setenv("FIELDMARK_CACHE", str(shared_cache))
    monkeypatch.setenv("FIELDMARK_WORKERS", "0")


def fit(
    winner: Candidate,
    train: Samples,
    val: Samples | None = None,
    *,
    symmetry: str = "none",
    policy: Policy = UNCHANGED,
    seed: int = 0,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Fitted:
    return fit_candidate(
        winner, train, val, symmetry=symmetry, policy=policy, seed=seed, on_epoch=on_epoch
    )


def said(fitted: Fitted, images: Samples) -> np.ndarray:
    """Probabilities by the network itself in torch."""
    with torch.inference_mode():
        found: np.ndarray = torch.softmax(
            fitted.network(torch.from_numpy(np.stack(list(images)))), 1
        ).numpy()
    return found


def weights(fitted: Fitted) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in fitted.network.state_dict().items()}


def equal(one: Fitted, other: Fitted) -> bool:
    a, b = weights(one), weights(other)
    return all(np.array_equal(a[key], b[key]) for key in a)


def longer(winner: Candidate) -> Candidate:
    return winner.model_copy(update={"fit": winner.fit.model_copy(update={"epochs": 12})})


@pytest.mark.parametrize(
    "winner",
    [longer(SMALL), longer(FROZEN), SVM, longer(candidate(TIMM))],
    ids=["small", "frozen", "svm", "fine-tuned"],
)
def test_eight_images_are_learnt_by_heart(winner: Candidate) -> None:
    eight = samples(EIGHT)
    assert said(fit(winner, eight), eight).argmax(1).tolist() == EIGHT


@pytest.mark.parametrize("winner", [SMALL, FROZEN, SVM], ids=["small", "frozen", "svm"])
def test_the_same_seed_gives_the_same_network_to_the_bit(winner: Candidate) -> None:
    assert equal(
        fit(winner, samples(EIGHT), policy=TURNS), fit(winner, samples(EIGHT), policy=TURNS)
    )


@pytest.mark.parametrize("winner", [SMALL, FROZEN], ids=["small", "frozen"])
def test_another_seed_gives_another_network(winner: Candidate) -> None:
    assert not equal(fit(winner, samples(EIGHT)), fit(winner, samples(EIGHT), seed=1))


def test_batch_normalisation_learns_the_statistics_of_the_images() -> None:
    """Lightning leaves a module in the mode it finds, and `build` leaves it in evaluation mode."""
    fitted = fit(candidate(SMALL_CNN, epochs=30), samples(EIGHT))
    pixels = np.stack(list(samples(EIGHT))) / 255
    np.testing.assert_allclose(
        weights(fitted)["extractor.body.0.running_mean"], pixels.mean((0, 1, 2)), atol=0.02
    )


def test_training_sees_the_images_under_the_policy() -> None:
    assert not equal(fit(SMALL, samples(EIGHT)), fit(SMALL, samples(EIGHT), policy=TURNS))


@pytest.mark.slow
def test_the_number_of_processes_that_load_images_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learnt, policy = (
        samples([0, 1] * 4),
        augmentation.from_nodes([{"_target_": "albumentations.HorizontalFlip"}]),
    )
    here = fit(candidate(SMALL_CNN, epochs=2), learnt, learnt, policy=policy)
    monkeypatch.setenv("FIELDMARK_WORKERS", "1")
    assert equal(here, fit(candidate(SMALL_CNN, epochs=2), learnt, learnt, policy=policy))


@pytest.mark.slow
def test_a_process_that_loads_images_keeps_nothing_of_this_one_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A copy of this process would also have the locks that its threads held just then."""
    monkeypatch.setenv("FIELDMARK_WORKERS", "1")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def at_the_end_of(epoch: dict[str, float]) -> None:
        os.close(writing)
        assert os.read(reading, 1) == b"", (
            "the end of the pipe; where another process has it open, reading would block"
        )

    fit(
        candidate(SMALL_CNN, epochs=1), samples([0, 1] * 4), samples([0, 1]), on_epoch=at_the_end_of
    )
    os.close(reading)


def test_a_frozen_backbone_keeps_the_weights_of_its_file(tmp_path: Path) -> None:
    seed_everything(3, verbose=False)
    own = timm.create_model("test_resnet")
    own.train()(torch.rand(4, 3, 32, 32))
    save_file(own.state_dict(), tmp_path / "own.safetensors")
    frozen = {**TIMM, "weights": str(tmp_path / "own.safetensors")}
    fitted = fit(candidate(frozen, frozen=True), samples(EIGHT))
    first = load_file(tmp_path / "own.safetensors")
    kept = fitted.network.extractor.body.state_dict()  # type: ignore[union-attr]
    assert any("running_mean" in key for key in kept)
    assert all(torch.equal(value, first[key]) for key, value in kept.items())


def test_a_backbone_that_is_not_frozen_learns() -> None:
    winner = candidate(TIMM, epochs=1)
    seed_everything(0, verbose=False)
    first = network.build(winner, n_classes=2, size_px=16, symmetry="none").extractor.state_dict()
    learnt = fit(winner, samples(EIGHT)).network.extractor.state_dict()
    changed = [key for key in first if not torch.equal(first[key], learnt[key])]
    assert any("conv" in key for key in changed) and any("running_mean" in key for key in changed)


def test_targets_may_be_probabilities() -> None:
    grey = np.full((8, 16, 16, 3), 128, np.uint8)
    targets = np.tile(np.array([[0.3, 0.7]], np.float32), (8, 1))
    doubtful = samples([1] * 8, images=grey, targets=targets)
    fitted = fit(candidate(HOG, frozen=True, epochs=40, lr=0.3), doubtful)
    np.testing.assert_allclose(said(fitted, doubtful), targets, atol=0.03)


@pytest.mark.parametrize(("class_weights", "rare"), [("none", 0.125), ("balanced", 0.5)])
def test_balanced_weights_let_a_rare_class_count_as_much(class_weights: str, rare: float) -> None:
    alike = samples([1] + [0] * 7, images=np.full((8, 16, 16, 3), 128, np.uint8))
    fitted = fit(candidate(HOG, frozen=True, epochs=40, lr=0.3, class_weights=class_weights), alike)
    assert said(fitted, alike)[0, 1] == pytest.approx(rare, abs=0.03)


@pytest.mark.parametrize(("sampling", "rare"), [("uniform", 0.125), ("balanced", 0.5)])
def test_balanced_sampling_lets_a_rare_class_count_as_much(sampling: str, rare: float) -> None:
    alike = samples([1] + [0] * 7, images=np.full((8, 16, 16, 3), 128, np.uint8))
    fitted = fit(
        candidate(HOG, frozen=True, epochs=40, lr=0.3, min_steps=400, sampling=sampling), alike
    )
    assert said(fitted, alike)[0, 1] == pytest.approx(rare, abs=0.07)


@pytest.mark.parametrize("extractor", [SMALL_CNN, HOG], ids=["small", "frozen"])
def test_few_images_are_passed_over_until_there_were_enough_steps(
    extractor: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty photos must not be trained for a dozen steps because a default says twelve epochs."""
    steps: list[int] = []
    step = classifier.Classifier.training_step

    def counted(self: Any, batch: Any, i: int) -> torch.Tensor:
        steps.append(i)
        return step(self, batch, i)

    monkeypatch.setattr(classifier.Classifier, "training_step", counted)
    winner = candidate(extractor, frozen=extractor is HOG, epochs=3, min_steps=20)
    heard: list[dict[str, float]] = []
    fit(winner, samples(EIGHT), samples([0, 1]), on_epoch=heard.append)
    assert (len(steps), len(heard)) == (21, 3), "as many epochs, each with a third of the steps"


def test_smoothed_labels_are_no_images_of_a_rare_class_nor_of_one_without_images() -> None:
    labels = [1] + [0] * 15
    fitted = fit(
        candidate(
            HOG, frozen=True, epochs=40, lr=0.05, class_weights="balanced", label_smoothing=0.3
        ),
        some := samples(labels, n_classes=3),
    )
    assert said(fitted, some).argmax(1).tolist() == labels


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_an_image_counts_as_much_as_its_weight_says_and_not_at_all_at_0(class_weights: str) -> None:
    alike = samples(
        [1] + [0] * 7,
        images=np.full((8, 16, 16, 3), 128, np.uint8),
        weights=[3, 0.5, 0.5, 2, 0, 0, 0, 0],
    )
    fitted = fit(candidate(HOG, frozen=True, epochs=40, lr=0.3, class_weights=class_weights), alike)
    assert said(fitted, alike)[0, 1] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("winner", [SMALL, FROZEN, SVM], ids=["small", "frozen", "svm"])
def test_only_how_weights_compare_matters_and_equal_ones_change_nothing(winner: Candidate) -> None:
    plain, same = samples(EIGHT), samples(EIGHT, weights=[7.0] * 8)
    np.testing.assert_allclose(
        said(fit(winner, same), plain), said(fit(winner, plain), plain), atol=1e-4
    )


def test_weights_that_are_all_0_are_an_error() -> None:
    with pytest.raises(FieldmarkError, match="all training images have the weight 0"):
        fit(FROZEN, samples(EIGHT, weights=[0] * 8))


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
@pytest.mark.parametrize(
    "labels",
    [[0, 1, 1, 0, 1, 0, 1, 1], [0, 1, 2, 2, 1, 0, 2, 2]],
    ids=["two classes", "three classes"],
)
@pytest.mark.parametrize(
    "weights", [None, [2, 0.5, 1, 1, 0.5, 1.5, 0.5, 1]], ids=["plain", "weighted"]
)
def test_the_svm_decides_as_scikit_learns(
    labels: list[int], class_weights: str, weights: list[float] | None
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    some = samples(labels, n_classes=3, images=noise, weights=weights)
    winner = candidate(
        HOG, frozen=True, head={"kind": "svm", "C": 0.01}, class_weights=class_weights
    )
    fitted = fit(winner, some)
    with torch.inference_mode():
        x = fitted.network.head[0](fitted.network.extractor(torch.from_numpy(noise))).numpy()  # type: ignore[index]
        ours = fitted.network(torch.from_numpy(noise)).numpy()
    svm = LinearSVC(
        C=0.01,
        random_state=0,
        class_weight=None if class_weights == "none" else "balanced",
        max_iter=20000,
    )
    decisions = svm.fit(x, labels, sample_weight=weights).decision_function(x)
    wanted = decisions if decisions.ndim == 2 else np.stack([-decisions, decisions], axis=1)
    np.testing.assert_allclose(ours[:, : wanted.shape[1]], wanted, atol=0.01)
    assert ours.argmax(1).tolist() == svm.predict(x).tolist()


def test_a_class_without_training_images_is_never_the_answer() -> None:
    some = samples([0, 2, 0, 2, 0, 2, 0, 2], n_classes=4)
    assert set(said(fit(SVM, some), samples([0, 1, 2, 3], n_classes=4)).argmax(1).tolist()) <= {
        0,
        2,
    }


@pytest.mark.parametrize("winner", [SMALL, FROZEN, SVM], ids=["small", "frozen", "svm"])
def test_each_epoch_is_reported_as_it_ends(winner: Candidate) -> None:
    heard: list[dict[str, float]] = []
    fitted = fit(winner, samples(EIGHT), samples([1, 0, 1]), on_epoch=heard.append)
    assert heard == fitted.history
    assert [epoch["epoch"] for epoch in heard] == list(range(1 if winner is SVM else 3))
    assert {"val/accuracy", "val/f1_macro", "val/log_loss"} <= set(heard[0])


@pytest.mark.parametrize("winner", [SMALL, FROZEN, SVM], ids=["small", "frozen", "svm"])
def test_the_last_epoch_says_what_the_finished_network_says(winner: Candidate) -> None:
    val = samples([1, 0, 1, 0, 0], images=draw([1, 0, 1, 0, 1], seed=4))
    fitted = fit(winner, samples(EIGHT), val)
    assert fitted.val_logits is not None
    last = {key: fitted.history[-1][key] for key in validation(fitted.val_logits, val.labels)}
    assert last == pytest.approx(validation(fitted.val_logits, val.labels), abs=1e-3)
    with torch.inference_mode():
        own = fitted.network(torch.from_numpy(np.stack(list(val)))).numpy()
    np.testing.assert_allclose(fitted.val_logits, own, atol=0.02)  # features are kept as float16


def test_a_head_on_averaged_views_is_the_network_that_is_served() -> None:
    val = samples([1, 0, 1])
    winner = candidate(HOG, frozen=True, average_views=True, epochs=3)
    fitted = fit(winner, samples(EIGHT), val, symmetry="d4")
    with torch.inference_mode():
        own = fitted.network(torch.from_numpy(np.stack(list(val)))).numpy()
    assert fitted.network.symmetry == "d4"
    np.testing.assert_allclose(fitted.val_logits, own, atol=0.02)


@pytest.mark.parametrize("winner", [SMALL, FROZEN], ids=["small", "frozen"])
def test_training_stops_when_whoever_watches_says_so(winner: Candidate) -> None:
    class Enough(Exception):
        pass

    heard: list[float] = []

    def watch(epoch: dict[str, float]) -> None:
        heard.append(epoch["epoch"])
        if len(heard) == 2:
            raise Enough

    with pytest.raises(Enough):
        fit(winner, samples(EIGHT), samples([0, 1]), on_epoch=watch)
    assert heard == [0, 1]


@pytest.mark.parametrize(
    "how",
    [
        {"extractor": SMALL_CNN},
        {"extractor": HOG, "frozen": True, "head": {"kind": "mlp", "hidden": 8}},
    ],
    ids=["small", "frozen"],
)
@pytest.mark.parametrize("val", [None, samples([0, 1])], ids=["alone", "watched"])
def test_a_training_that_diverges_says_what_to_do(how: dict[str, Any], val: Samples | None) -> None:
    with pytest.raises(Diverged, match=r"diverged in epoch \d: .*lower fit.lr"):
        fit(candidate(lr=1e30, **how), samples(EIGHT), val)


@pytest.mark.parametrize("winner", [SMALL, FROZEN, SVM], ids=["small", "frozen", "svm"])
def test_what_is_handed_over_is_in_evaluation_mode(winner: Candidate) -> None:
    assert not any(part.training for part in fit(winner, samples(EIGHT)).network.modules())


def test_a_single_image_a_class_will_do() -> None:
    two = samples([0, 1])
    assert said(fit(candidate(SMALL_CNN, epochs=30, batch_size=64), two), two).argmax(
        1
    ).tolist() == [0, 1]


def test_logits_of_the_engine_are_those_of_torch() -> None:
    five = samples([0, 1, 0, 1, 0])
    fitted = fit(SMALL, samples(EIGHT))
    with torch.inference_mode():
        own = fitted.network(torch.from_numpy(np.stack(list(five)))).numpy()
    np.testing.assert_allclose(logits(fitted.network, five), own, atol=1e-3)


def calibrated(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is right about the labels drawn from it."""
    random = np.random.default_rng(0)
    honest = random.normal(size=(n, k)) * 2
    probs = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    drawn = (probs.cumsum(1) > random.random((n, 1))).argmax(1)
    return honest.astype(np.float32), np.eye(k, dtype=np.float32)[drawn]


@pytest.mark.parametrize("planted", [0.3, 1.0, 4.0])
def test_the_temperature_that_was_planted_is_found(planted: float) -> None:
    honest, targets = calibrated(20000, 4)
    assert temperature(honest * np.float32(planted), targets) == pytest.approx(planted, rel=0.03)


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0, 1e4])
@pytest.mark.parametrize("shift", [0, 1], ids=["all right", "all wrong"])
def test_the_temperature_stays_within_reason(scale: float, shift: int) -> None:
    targets = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    found = temperature(np.roll(targets, shift, axis=1) * np.float32(scale), targets)
    assert 0.05 <= found <= 20


def test_a_temperature_changes_no_decision() -> None:
    fitted = fit(FROZEN, samples(EIGHT))
    before: Any = said(fitted, samples(EIGHT)).argmax(1)
    fitted.network.temperature.fill_(7.0)  # type: ignore[operator]
    np.testing.assert_array_equal(said(fitted, samples(EIGHT)).argmax(1), before)


def test_half_precision_trains_another_network_of_full_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = samples(EIGHT)
    full = weights(fit(SMALL, train))
    monkeypatch.setenv("FIELDMARK_PRECISION", "bf16-mixed")
    half = fit(SMALL, train, samples(EIGHT, images=draw(EIGHT, seed=1)))
    assert any(not np.array_equal(full[key], value) for key, value in weights(half).items())
    assert {value.dtype.name for key, value in weights(half).items() if key.endswith("weight")} == {
        "float32"
    }
    assert half.val_logits is not None and half.val_logits.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FIELDMARK_ACCELERATOR", "gpux"),
        *(
            ("FIELDMARK_PRECISION", x)
            for x in ("8-bits", "bf16-true", "64-true", "transformer-engine")
        ),
    ],
)
def test_an_accelerator_or_a_precision_that_there_is_not_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(FieldmarkError, match=f"{name}.*{value}"):
        fit(SMALL, samples(EIGHT))


def test_a_head_is_trained_on_the_cpu_in_full_precision_whatever_the_gpu_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = fit(FROZEN, samples(EIGHT))
    monkeypatch.setenv("FIELDMARK_PRECISION", "16-mixed")
    assert equal(fit(FROZEN, samples(EIGHT)), full)


@pytest.mark.parametrize("winner", [SMALL, FROZEN], ids=["small", "frozen"])
def test_a_cluster_that_speaks_of_several_tasks_is_not_asked(
    winner: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_NAME": "train",
        "SLURM_JOB_ID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert len(fit(winner, samples(EIGHT)).history) == 3


@pytest.mark.parametrize("winner", [SMALL, FROZEN], ids=["small", "frozen"])
def test_what_follows_a_training_may_use_any_operation(winner: Candidate) -> None:
    fit(winner, samples(EIGHT))
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            "lower fit.batch_size .*FIELDMARK_ACCELERATOR=cpu .*2.00 GiB",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), "lower fit.batch_size"),
        (
            torch.AcceleratorError(
                "CUDA error: no kernel image is available for execution on the device"
            ),
            "too old .*FIELDMARK_ACCELERATOR=cpu .*no kernel image",
        ),
        (
            RuntimeError("DataLoader worker (pid 9) is killed by signal: Bus error."),
            "shared memory .*FIELDMARK_WORKERS=0 .*Bus error",
        ),
    ],
    ids=["memory", "apple", "old", "shared memory"],
)
def test_what_a_gpu_fails_with_says_what_to_turn(
    error: RuntimeError, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(classifier.Classifier, "training_step", fail)
    with pytest.raises(FieldmarkError, match=advice):
        fit(SMALL, samples(EIGHT))


def test_any_other_error_of_a_training_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(classifier.Classifier, "training_step", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fit(SMALL, samples(EIGHT))
