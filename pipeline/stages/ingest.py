"""ingest: the source named in conf + data/feedback -> data/ingest.

images-*.parquet   id, bytes: every readable image, untouched, once
table.parquet      one row per image, in the order of the source; the columns of table.INGEST_COLUMNS
quarantine.csv     name, reason: whatever was left out, in the order met
"""

from itertools import chain
from pathlib import Path

from pipeline.config import Config, build
from pipeline.sources import feedback as accepted
from pipeline.sources import intake, ledger, obstacles, preview, quarantine
from pipeline.sources.verify import max_bytes, max_pixels, verified
from pipeline.storage import table


def run(cfg: Config, *, images: Path | str, feedback: Path, out: Path) -> dict[str, float]:
    """Pack every readable image once, and list what was left out, with the reason.

    What an earlier run has read is known. Raises FieldmarkError where fewer than two classes
    remain, and no image without a label that may become one.
    """
    out.mkdir(parents=True, exist_ok=True)
    limit, size = max_pixels(cfg.ingest), max_bytes(cfg.ingest)
    own_images = build(cfg.ingest.source, "ingest", images=images, max_bytes=size)
    source = chain(own_images, accepted.read(feedback, size))
    with (
        ledger.opened(limit, size) as memory,
        quarantine.opened(out / "quarantine.csv") as left_out,
    ):
        entries = intake.unique(verified(source, limit, memory), left_out)
        table.write_each(map(intake.row, memory.pack(out, entries)), out)
    return intake.figures(table.read(out, ["label", "metadata"]), left_out)


def check(cfg: Config, *, images: Path | str) -> str:
    """What `run` would take in, leave out and why; of many images only a sample is decoded."""
    source = build(cfg.ingest.source, "ingest", images=images, max_bytes=max_bytes(cfg.ingest))
    account = preview.describe(source, max_pixels(cfg.ingest))
    return "\n".join([account, *obstacles.describe(images)])
