"""The random generators that are common to a whole process."""

import random
import sys

import numpy as np


def seed_all(seed: int) -> None:
    """Seed those of Python and numpy, and that of torch where it is loaded: its import takes seconds.

    seed: 0 to 2**32 - 1.
    """
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        import torch

        torch.manual_seed(seed)
