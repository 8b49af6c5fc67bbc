"""From the files of a request to the input of the network, in fair turns."""

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
from pipeline.serving.limits import MB, Share
from pipeline.serving.problems import Refusal
from pipeline.serving.turns import Turns
from pipeline.sources import signatures

T = TypeVar("T")
# A header counts as a turn of so many bytes of decoding. HEADERS is how many are read at a time.
HEADER_BYTES, HEADERS = 4_000_000, 8


class Decoder:
    """Decodes the images of requests; use it from one event loop."""

    def __init__(self, cfg: Serving) -> None:
        self._cfg = cfg
        self._turns = Turns(cfg.decode_threads, round(cfg.max_decoding_mb * MB))

    async def prepared(self, model: Model, files: list[bytes], share: Share) -> list[np.ndarray]:
        """The images, ready for the network.

        The headers come first: they say how much memory decoding takes. Decoding starts once there
        is room for it. Raises Refusal for a bad image, and (429 or 413) where decoding takes too
        much memory.
        """
        limits: dict[str, Any] = {
            "max_pixels": int(self._cfg.max_megapixels * MB),
            "formats": self._cfg.formats,
        }
        with self._turns.request() as request:
            groups = [files[at : at + HEADERS] for at in range(0, len(files), HEADERS)]
            header_reads = [
                request.run(HEADER_BYTES * len(group), partial(self._costs, group, **limits))
                for group in groups
            ]
            costs = _good(list(chain.from_iterable(await asyncio.gather(*header_reads))), files)
            share.add(decoding=sum(costs))
            work = [
                request.run(n_bytes, partial(model.prepare, data, **limits))
                for n_bytes, data in zip(costs, files, strict=True)
            ]
            return _good(await asyncio.gather(*work, return_exceptions=True), files)

    def _costs(self, files: list[bytes], **limits: Any) -> list[int | BadImage]:
        """For each file the bytes that decoding takes, or why it cannot be decoded."""
        costs: list[int | BadImage] = []
        for data in files:
            try:
                costs.append(self._cost(data, **limits))
            except BadImage as error:
                costs.append(error)
        return costs

    def _cost(self, data: bytes, **limits: Any) -> int:
        """Bytes of memory that decoding takes; raises BadImage where they exceed the limit."""
        n_bytes = cost.decoding_bytes(data, **limits)
        if n_bytes > self._turns.max_bytes:
            raise BadImage(
                f"decoding it takes {n_bytes / MB:.0f} MB; the limit is "
                f"{self._turns.max_bytes / MB:.0f} MB"
            )
        return n_bytes

    def close(self) -> None:
        """Call it after the last answer."""
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
    """The reason without internals of a decoder."""
    return "the file is damaged" if str(problem).startswith("damaged:") else str(problem)
