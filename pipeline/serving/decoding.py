"""From the files of a request to what the network takes, in fair turns."""

import asyncio
from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from pipeline.config.schema import Serving
from pipeline.exported.model import Model
from pipeline.pixels import cost
from pipeline.pixels.images import BadImage
from pipeline.serving.limits import MB, Visit
from pipeline.serving.problems import Refusal
from pipeline.serving.turns import Turns
from pipeline.sources import signatures

T = TypeVar("T")
# Of one, in turns: as much time as so many bytes take to decode. And how many are read at a time.
HEADER_BYTES, HEADERS = 4_000_000, 8


class Decoder:
    """Used from one event loop."""

    def __init__(self, cfg: Serving) -> None:
        self._cfg = cfg
        self._turns = Turns(cfg.decode_threads, round(cfg.max_decoding_mb * MB))

    async def prepared(self, model: Model, files: list[bytes], visit: Visit) -> list[np.ndarray]:
        """First the headers, which say what decoding takes; it begins once there is room for it.

        Raises Refusal for a bad image, and (429 or 413) where decoding takes too much.
        """
        limits: dict[str, Any] = {
            "max_pixels": int(self._cfg.max_megapixels * MB),
            "formats": self._cfg.formats,
        }
        with self._turns.request() as request:
            groups = [files[at : at + HEADERS] for at in range(0, len(files), HEADERS)]
            read = [
                request.run(HEADER_BYTES * len(group), partial(self._costs, group, **limits))
                for group in groups
            ]
            costs = _good(list(chain.from_iterable(await asyncio.gather(*read))), files)
            visit.add(decoding=sum(costs))
            work = [
                request.run(n_bytes, partial(model.prepare, data, **limits))
                for n_bytes, data in zip(costs, files, strict=True)
            ]
            return _good(await asyncio.gather(*work, return_exceptions=True), files)

    def _costs(self, files: list[bytes], **limits: Any) -> list[int | BadImage]:
        """Bytes that decoding takes, or why there will be none."""
        costs: list[int | BadImage] = []
        for data in files:
            try:
                costs.append(self._cost(data, **limits))
            except BadImage as error:
                costs.append(error)
        return costs

    def _cost(self, data: bytes, **limits: Any) -> int:
        """Bytes that decoding takes; raises BadImage where it may not take so many."""
        n_bytes = cost.decoding_bytes(data, **limits)
        if n_bytes > self._turns.max_bytes:
            raise BadImage(
                f"decoding it takes {n_bytes / MB:.0f} MB; the limit is "
                f"{self._turns.max_bytes / MB:.0f} MB"
            )
        return n_bytes

    def close(self) -> None:
        """After the last answer."""
        self._turns.close()


def _good(results: Sequence[T | BaseException], files: list[bytes]) -> list[T]:
    """The results of the files; raises Refusal for the first bad image."""
    for number, result in enumerate(results, start=1):
        if isinstance(result, BadImage):
            which = f"image {number} of {len(files)}: " if len(files) > 1 else ""
            why = signatures.named(files[number - 1]) or _reason(result)
            raise Refusal(422, "image", which + why)
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _reason(problem: BadImage) -> str:
    """Without what a decoder says of its own insides."""
    return "the file is damaged" if str(problem).startswith("damaged:") else str(problem)
