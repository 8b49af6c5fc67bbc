from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import candidate

from pipeline.training.classifier import Classifier


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.backbone(x))
        return found


def classifier(net: nn.Module, **options: Any) -> Classifier:
    fit = {
        key: options.pop(key)
        for key in ("lr", "label_smoothing", "weight_decay", "backbone_lr_scale")
        if key in options
    }
    return Classifier(net, candidate(**fit).fit, total_steps=10, **options)


def batch(targets: list[list[float]]) -> tuple[Tensor, Tensor, Tensor]:
    probs = torch.tensor(targets)
    return torch.zeros(len(targets), len(targets[0])), probs, probs.argmax(1)


def test_the_backbone_learns_at_its_own_rate() -> None:
    net = Halves()
    module = classifier(net, lr=0.1, backbone=[[net.backbone]], backbone_lr_scale=0.01)
    optimizer: Any = module.configure_optimizers()["optimizer"]
    backbone, head = optimizer.param_groups
    assert [id(p) for p in head["params"]] == [id(p) for p in net.head.parameters()]
    assert [id(p) for p in backbone["params"]] == [id(p) for p in net.backbone.parameters()]
    assert [head["max_lr"], backbone["max_lr"]] == pytest.approx([0.1, 0.001])


def test_without_a_backbone_there_is_one_rate() -> None:
    optimizer: Any = classifier(Halves(), lr=0.1).configure_optimizers()["optimizer"]
    assert [(len(group["params"]), group["max_lr"]) for group in optimizer.param_groups] == [
        (4, 0.1)
    ]


def test_logits_are_averaged_over_the_views() -> None:
    module = classifier(nn.Identity())
    views = torch.tensor([[[0.0, 2.0], [4.0, 0.0]]])
    assert module(views).tolist() == [[2.0, 1.0]]


def test_the_loss_is_the_cross_entropy_with_the_probabilities() -> None:
    loss = classifier(nn.Identity()).training_step(
        (torch.tensor([[0.0, 2.0]]), torch.tensor([[0.25, 0.75]]), torch.tensor([1])), 0
    )
    logs = torch.log_softmax(torch.tensor([0.0, 2.0]), 0)
    assert float(loss) == pytest.approx(float(-(0.25 * logs[0] + 0.75 * logs[1])))


def test_smoothed_labels_punish_certainty() -> None:
    sure = (torch.tensor([[30.0, -30.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    plain = classifier(nn.Identity()).training_step(sure, 0)
    smooth = classifier(nn.Identity(), label_smoothing=0.2).training_step(sure, 0)
    assert (float(plain), float(smooth)) == pytest.approx((0.0, 6.0), abs=1e-4)


def test_class_weights_weigh_the_classes() -> None:
    weights = torch.tensor([1.0, 5.0])
    loss = classifier(nn.Identity(), class_weights=weights).training_step(
        (
            torch.tensor([[0.0, 0.0], [0.0, 3.0]]),
            torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
            torch.tensor([0, 1]),
        ),
        0,
    )
    each = -torch.log_softmax(torch.tensor([[0.0, 0.0], [0.0, 3.0]]), 1)
    assert float(loss) == pytest.approx(float((each[0, 0] + 5 * each[1, 1]) / 2))


def test_class_weights_weigh_the_shares_of_a_graded_label() -> None:
    weights, shares = torch.tensor([1.0, 5.0]), torch.tensor([[0.25, 0.75]])
    loss = classifier(nn.Identity(), class_weights=weights).training_step(
        (torch.tensor([[0.0, 3.0]]), shares, torch.tensor([1])), 0
    )
    assert float(loss) == pytest.approx(
        float(-(weights * shares * torch.log_softmax(torch.tensor([[0.0, 3.0]]), 1)).sum())
    )
