"""Which images a step learns from, in which order, and the seed of each."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from pipeline import FieldmarkError

Key = tuple[int, int]  # position and seed of one image in one pass
Transform = Callable[[np.ndarray, int], np.ndarray]  # of an image and such a seed


def borders(m: int, parts: int) -> list[tuple[int, int]]:
    """Where each part of so many images begins and ends."""
    return [*pairwise(np.linspace(0, m, parts + 1).astype(int).tolist())]


class SeededOrder:
    """Batches of at most batch_size keys, shuffled anew in each pass over the images; all of nearly
    the same size, so that none is too small for batch normalisation.

    An epoch is one pass, or `steps` batches where these are more: then it goes on in the next pass
    where the one before it ended. chances: how likely each image is drawn; then a pass draws as
    many images as there are, some several times. Of `world` processes that train together, the one
    of this rank gets its part of each batch. Raises FieldmarkError where a batch has fewer images.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        *,
        shuffle: bool,
        steps: int = 0,
        chances: Float64[np.ndarray, " n"] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.n, self.seed, self.shuffle, self.chances = n, seed, shuffle, chances
        self.batches = max(1, -(-n // batch_size))  # of a pass
        self.steps = max(steps, self.batches)
        self.epoch = 0
        self.rank, self.world = rank, world
        if world > 1 and n // self.batches < world:
            raise FieldmarkError(
                f"a batch has {n // self.batches} images, too few for {world} devices: lower "
                "FIELDMARK_DEVICES or raise fit.batch_size"
            )

    def __len__(self) -> int:
        return self.steps

    @property
    def sampler(self) -> "SeededOrder":
        """Lightning tells the sampler of a batch sampler which epoch begins."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Key]]:
        """Another epoch begins with the first batch: a loader with processes asks for an iterator
        that it never uses.
        """
        first = self.epoch * self.steps
        self.epoch += 1
        batches = borders(self.n, self.batches)
        keys, current = list[Key](), -1
        for step in range(first, first + self.steps):
            turn, batch = divmod(step, self.batches)
            if turn != current:
                keys, current = self._keys(turn), turn
            start, end = batches[batch]
            first_mine, end_mine = borders(end - start, self.world)[self.rank]
            yield keys[start + first_mine : start + end_mine]

    def _keys(self, turn: int) -> list[Key]:
        random = np.random.default_rng([self.seed, turn])
        if self.chances is not None:
            order = random.choice(self.n, self.n, p=self.chances)
        else:
            order = random.permutation(self.n) if self.shuffle else np.arange(self.n)
        seeds = random.integers(0, 2**31, self.n)
        return list(zip(order.tolist(), seeds.tolist(), strict=True))
