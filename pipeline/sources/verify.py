"""Whether what a source yields is an image that decodes; several at a time."""

from collections.abc import Iterable, Iterator
from hashlib import sha256

from tqdm import tqdm

from pipeline.compute import parallel
from pipeline.config.schema import Ingest
from pipeline.pixels.images import BadImage, probe
from pipeline.sources import Item, Remark, Skipped, signatures
from pipeline.sources.ledger import UNREADABLE, Ledger, Verified

Entry = Item | Skipped | Remark
Outcome = Verified | Skipped | Remark


def max_pixels(settings: Ingest) -> int:
    """The limit of the configuration, in pixels."""
    return round(settings.max_megapixels * 1e6)


def max_bytes(settings: Ingest) -> int:
    """The limit of the configuration for one file, in bytes."""
    return round(settings.max_file_megabytes * 1e6)


def verified(
    source: Iterable[Entry], max_pixels: int, ledger: Ledger | None = None
) -> Iterator[Outcome]:
    """The outcome of each entry, in the source's order; files in the ledger are not read.

    A few files per core are read ahead.
    """

    def check(drawn: tuple[Entry, Outcome | None]) -> tuple[Entry, Outcome]:
        entry, outcome = drawn
        return entry, outcome or verify(entry, max_pixels)

    drawn = (
        (entry, ledger.recall(entry) if ledger and isinstance(entry, Item) else None)
        for entry in source
    )
    for entry, outcome in tqdm(
        parallel.in_order(check, drawn), desc="ingest", unit="file", mininterval=1
    ):
        if ledger and isinstance(entry, Item) and not isinstance(outcome, Remark):
            ledger.note(entry, outcome)
        yield outcome


def verify(entry: Entry, max_pixels: int) -> Outcome:
    """The decoded item, or why it is left out."""
    if not isinstance(entry, Item):
        return entry
    try:
        data = entry.load()
    except OSError as problem:
        return Skipped(entry.name, f"{UNREADABLE}{problem.strerror or problem}")
    kind = signatures.named(data)
    if kind:
        return Skipped(entry.name, kind)
    try:
        return Verified(
            sha256(data).hexdigest(), len(data), data, entry, probe(data, max_pixels=max_pixels)
        )
    except BadImage as problem:
        return Skipped(entry.name, str(problem))
