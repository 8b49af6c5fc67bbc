from collections.abc import Iterator
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import draw

from pipeline import FieldmarkError
from pipeline.features import engine
from pipeline.features.backbones import SmallCNN

PX = 16
BATCHES = [draw([i % 4, (i + 1) % 4, 2], px=PX, seed=i) for i in range(150)] + [draw([3], px=PX)]


class Mean(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2))


@pytest.fixture(scope="module")
def network() -> SmallCNN:
    torch.manual_seed(0)
    return SmallCNN(input_px=PX, width=4, blocks=2)


@pytest.fixture(scope="module")
def streamed(network: SmallCNN) -> tuple[list[np.ndarray], list[int]]:
    """The outputs for a long stream with a short last batch, and how many batches were drawn before
    each output.
    """
    drawn = 0

    def batches() -> Iterator[np.ndarray]:
        nonlocal drawn
        for batch in BATCHES:
            drawn += 1
            yield batch

    outputs = [(output, drawn) for output in engine.run(network, batches(), PX)]
    return [output for output, _ in outputs], [drawn for _, drawn in outputs]


def test_outputs_are_torchs_own_in_the_order_of_the_batches(
    network: SmallCNN, streamed: tuple[list[np.ndarray], list[int]]
) -> None:
    with torch.inference_mode():
        own = [network.eval()(torch.from_numpy(batch)).numpy() for batch in BATCHES]
    assert [len(output) for output in streamed[0]] == [len(batch) for batch in BATCHES]
    np.testing.assert_allclose(np.concatenate(streamed[0]), np.concatenate(own), atol=1e-3)


def test_the_way_of_a_gpu_gives_the_same_outputs(
    network: SmallCNN, streamed: tuple[list[np.ndarray], list[int]]
) -> None:
    outputs = list(engine._run_torch(network, iter(BATCHES[:3]), "cpu"))
    np.testing.assert_allclose(np.concatenate(outputs), np.concatenate(streamed[0][:3]), atol=1e-3)
    assert not torch.is_inference_mode_enabled()


def test_a_gpu_without_memory_for_features_says_what_to_turn() -> None:
    class Full(nn.Module):
        def forward(self, _: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with pytest.raises(FieldmarkError, match="FIELDMARK_ACCELERATOR=cpu"):
        list(engine._run_torch(Full(), iter(BATCHES[:1]), "cpu"))


@pytest.mark.parametrize(
    ("accelerator", "engine_of"), [("auto", "torch-"), ("gpu", "torch-"), ("cpu", "openvino-")]
)
def test_a_gpu_computes_features_unless_it_is_overruled(
    accelerator: str, engine_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("FIELDMARK_ACCELERATOR", accelerator)
    assert engine.name().startswith(engine_of)


def test_a_long_stream_is_never_held_in_memory(
    streamed: tuple[list[np.ndarray], list[int]],
) -> None:
    waiting = [drawn - given for given, drawn in enumerate(streamed[1][:-50])]
    assert max(waiting) < len(BATCHES) // 2


def test_outputs_are_float32(streamed: tuple[list[np.ndarray], list[int]]) -> None:
    assert {output.dtype.name for output in streamed[0]} == {"float32"}


def test_batch_normalisation_uses_what_it_learnt_not_the_batch(network: SmallCNN) -> None:
    network.train()
    (alone,) = engine.run(network, [BATCHES[0][:1]], PX)
    (together,) = engine.run(network, [BATCHES[0]], PX)
    np.testing.assert_allclose(alone[0], together[0], atol=1e-4)


def test_no_batches_give_no_outputs() -> None:
    assert list(engine.run(Mean(), [], PX)) == []


def test_an_error_while_reading_reaches_the_caller() -> None:
    def batches() -> Iterator[np.ndarray]:
        yield BATCHES[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(engine.run(Mean(), batches(), PX))


def test_nothing_is_reported_to_anybody() -> None:
    """OpenVINO sends an event to Google for each conversion, without asking, where this package can
    be imported.
    """
    with pytest.raises(ImportError):
        import_module("openvino_telemetry")


def test_strided_batches_are_read_as_they_look() -> None:
    mirrored = BATCHES[0][:, :, ::-1]
    (output,) = engine.run(Mean(), [mirrored[:, ::2, ::2]], PX // 2)
    np.testing.assert_allclose(output, mirrored[:, ::2, ::2].mean((1, 2)), atol=1e-3)
