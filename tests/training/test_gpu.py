"""What would stop on a GPU, shown without one: torch's fake tensors know their device, and refuse
to mix two.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from toys import HOG, SMALL_CNN, TIMM, candidate

from pipeline.training.classifier import Classifier
from pipeline.training.network import build

PX = 32
RESNET = {
    "_target_": "pipeline.features.backbones.Pretrained",
    "library": "torchvision",
    "name": "resnet18",
    "weights": "random",
    "taps": ["layer4"],
    "pools": ["avg", "max"],
    "mean": None,
    "std": None,
}
MLP = {"kind": "mlp", "hidden": 8, "dropout": 0.5}


def on_gpu(
    features: dict[str, Any], *, head: dict[str, Any] | None = None, symmetry: str = "flip"
) -> Classifier:
    winner = candidate(features, head=head, average_views=True)
    network = build(winner, n_classes=3, size_px=PX, symmetry=symmetry)
    weights, backbone = torch.ones(3), [[network.extractor]]
    module = Classifier(
        network, winner.fit, total_steps=4, class_weights=weights, backbone=backbone, images=True
    )
    for part in module.modules():  # what .to("cuda") does, which fake tensors do not take
        part._parameters |= {
            key: p if p is None else nn.Parameter(p.detach().to("cuda"))
            for key, p in part._parameters.items()
        }
        part._buffers |= {key: b if b is None else b.to("cuda") for key, b in part._buffers.items()}
    return module.train()


def batch() -> list[Tensor]:
    """Images, targets, labels and weights, as Lightning would have moved them."""
    parts = [
        torch.zeros(4, PX, PX, 3, dtype=torch.uint8),
        torch.ones(4, 3),
        torch.zeros(4, dtype=torch.int64),
        torch.ones(4),
    ]
    return [part.to("cuda") for part in parts]


@pytest.mark.parametrize(
    ("features", "head"),
    [(SMALL_CNN, None), (TIMM, MLP), (RESNET, None), (HOG, None)],
    ids=["small_cnn", "timm", "torchvision", "hog"],
)
def test_a_training_step_stays_on_the_gpu(
    features: dict[str, Any], head: dict[str, Any] | None
) -> None:
    with FakeTensorMode():
        loss = on_gpu(features, head=head).training_step(batch(), 0)
    assert loss.device.type == "cuda"


def test_validation_brings_its_logits_back() -> None:
    with FakeTensorMode():
        module = on_gpu(SMALL_CNN).eval()
        module.validation_step(batch(), 0)
        [logits], [labels] = module._logits, module._labels
    assert (logits.device.type, logits.dtype, labels.device.type) == ("cpu", torch.float32, "cpu")


@pytest.mark.parametrize("symmetry", ["none", "d4"])
def test_features_are_computed_where_the_module_is(symmetry: str) -> None:
    with FakeTensorMode():
        network = on_gpu(HOG, symmetry=symmetry).net.eval()
        assert network(batch()[0]).device.type == "cuda"


def test_these_tests_see_two_devices_mixed() -> None:
    class Mixes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.zeros(3)

    with FakeTensorMode(), pytest.raises(RuntimeError, match="same device"):
        Mixes()(torch.zeros(2, 3, device="cuda"))
