"""Packed images, as ingest leaves them."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.storage import store


def write_images(
    folder: Path, items: Iterable[tuple[str, bytes]], shard_bytes: int = store.SHARD_BYTES
) -> None:
    """Pack (id, bytes) in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, shard in enumerate(
        store.portions(items, lambda item: len(item[1]), shard_bytes, store.SHARD_IMAGES)
    ):
        store.write_shard(store.shard_path(folder, number), shard)
