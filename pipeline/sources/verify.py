"""Whether what a source yields is an image that decodes; several at a time."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from tqdm import tqdm

from pipeline import store
from pipeline.images import BadImage, Probe, probe
from pipeline.schema import Ingest
from pipeline.sources import Item, Skipped, foreign


class Verified(NamedTuple):
    """An item whose bytes decode; `id` is their SHA-256."""

    id: str
    data: bytes
    item: Item
    probe: Probe


def max_pixels(settings: Ingest) -> int:
    """The limit of the configuration, in pixels."""
    return round(settings.max_megapixels * 1e6)


def verified(source: Iterable[Item | Skipped], max_pixels: int) -> Iterator[Verified | Skipped]:
    """In the source's order, a few files a core ahead of it."""
    check = partial(verify, max_pixels=max_pixels)
    n_cores = os.cpu_count() or 1
    with ThreadPoolExecutor(n_cores) as pool, tqdm(desc="ingest", unit="file", mininterval=1) as progress:
        for chunk in store.chunks(source, 8 * n_cores):
            yield from pool.map(check, chunk)
            progress.update(len(chunk))


def verify(entry: Item | Skipped, max_pixels: int) -> Verified | Skipped:
    """The decoded item, or why it is left out."""
    if isinstance(entry, Skipped):
        return entry
    try:
        data = entry.load()
    except OSError as problem:
        return Skipped(entry.name, f"cannot be read: {problem.strerror or problem}")
    kind = foreign.named(data)
    if kind:
        return Skipped(entry.name, kind)
    try:
        return Verified(sha256(data).hexdigest(), data, entry, probe(data, max_pixels=max_pixels))
    except BadImage as problem:
        return Skipped(entry.name, str(problem))
