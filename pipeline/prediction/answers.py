"""A model's answers to pictures, with few pictures in memory at a time."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from pipeline.compute import parallel
from pipeline.exported.model import Model
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
    model: Model, pictures: Iterable[Picture], *, top: int
) -> Iterator[tuple[Answer, Picture]]:
    """One answer per picture, in order; few pictures are in memory at a time."""
    for some in store.portions(pictures, _n_pixels, PIXELS_AT_ONCE, AT_ONCE):
        read = [picture for picture in some if picture.pixels is not None]
        predictions = iter(_predictions(model, read, top))
        del read
        while some:
            picture = some.pop(0)
            if picture.pixels is None:
                yield Answer(picture.name, [], error=picture.error), picture
            else:
                yield next(predictions), picture


def _n_pixels(picture: Picture) -> int:
    return 0 if picture.pixels is None else picture.pixels.shape[0] * picture.pixels.shape[1]


def _predictions(model: Model, pictures: Sequence[Picture], top: int) -> list[Answer]:
    return list(parallel.in_order(partial(_answer, model, top, len(pictures) > 1), pictures))


def _answer(model: Model, top: int, lane: bool, picture: Picture) -> Answer:
    assert picture.pixels is not None
    outputs = model.predict(model.prepare(picture.pixels)[None], lane=lane)
    verdict = model.judge(outputs, top)
    return Answer(picture.name, verdict.top, verdict.abstain, verdict.ood, verdict.ood_score)
