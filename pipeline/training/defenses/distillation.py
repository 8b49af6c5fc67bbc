"""Soft targets: what a first network says about the training images at a high temperature.

Papernot, McDaniel, Wu, Jha and Swami, S&P 2016, section IV. Axes: n images, k classes.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float32

from pipeline.storage import memo
from pipeline.training.network import Network, logits
from pipeline.training.samples import Samples


def soft_targets(
    teach: Callable[[], Network], images: Samples, temperature: float, key: str
) -> Float32[np.ndarray, "n k"]:
    """The probabilities at the temperature. teach: trains the first network; key: of all that
    decides on it, so that it is trained once.
    """

    def soft() -> memo.Arrays:
        print("  the first network, whose answers are the targets of the second", flush=True)
        answers = torch.from_numpy(logits(teach(), images)) / temperature
        return {"targets": torch.softmax(answers, dim=1).numpy()}

    asked = memo.key({"taught": key, "temperature": temperature}, code=(__name__,))
    return memo.once("teachers", asked, soft)["targets"]
