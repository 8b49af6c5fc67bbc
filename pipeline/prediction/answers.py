"""A model's answers to pictures, with few pictures in memory at a time."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from pipeline.compute import parallel
from pipeline.evaluation.smoothing import Trailing
from pipeline.exported.model import Model, Outputs
from pipeline.prediction.pictures import Picture
from pipeline.storage import store

AT_ONCE = 16  # pictures in memory
PIXELS_AT_ONCE = 50_000_000  # of all pictures in memory; a larger picture comes alone


class Answer(NamedTuple):
    """The model's answer to one picture.

    `top` has the likeliest classes with their probabilities. It is empty where the picture could
    not be read; `error` then says why.
    """

    name: str
    top: list[tuple[str, float]]
    abstain: bool = False
    ood: bool = False
    ood_score: float = 0.0
    error: str = ""


def answers(
    model: Model, pictures: Iterable[Picture], *, top: int, smoothing: Trailing | None = None
) -> Iterator[tuple[Answer, Picture]]:
    """One answer per picture, in order; few pictures are in memory at a time.

    Frames of a film get the mean of the last frames' probabilities: see evaluation/smoothing.
    """
    for some in store.portions(pictures, _n_pixels, PIXELS_AT_ONCE, AT_ONCE):
        read = [picture for picture in some if picture.pixels is not None]
        outputs = iter(_outputs(model, read))
        del read
        while some:
            picture = some.pop(0)
            if picture.pixels is None:
                yield Answer(picture.name, [], error=picture.error), picture
            else:
                yield _answer(model, picture, next(outputs), smoothing, top), picture


def _n_pixels(picture: Picture) -> int:
    return 0 if picture.pixels is None else picture.pixels.shape[0] * picture.pixels.shape[1]


def _outputs(model: Model, pictures: Sequence[Picture]) -> list[Outputs]:
    return list(parallel.in_order(partial(_output, model, len(pictures) > 1), pictures))


def _output(model: Model, lane: bool, picture: Picture) -> Outputs:
    assert picture.pixels is not None
    return model.predict(model.prepare(picture.pixels)[None], lane=lane)


def _answer(
    model: Model, picture: Picture, outputs: Outputs, smoothing: Trailing | None, top: int
) -> Answer:
    if smoothing and picture.film:
        mean = smoothing(outputs.probs[0], picture.film, picture.seconds)
        outputs = outputs._replace(probs=mean[None].astype(np.float32))
    verdict = model.judge(outputs, top)
    return Answer(picture.name, verdict.top, verdict.abstain, verdict.ood, verdict.ood_score)
