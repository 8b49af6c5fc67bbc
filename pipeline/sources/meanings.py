"""Which columns of a listing are used for more than metadata; people are told before.

A column `weight` may hold kilograms.
"""

from collections.abc import Iterator

from pipeline.sources import Item, Remark

EXAMPLES = 3


class Meanings:
    """Counts over the items of one listing."""

    def __init__(self) -> None:
        self._n = {"group": 0, "split": 0, "weight": 0, "soft": 0}
        self._weights = (float("inf"), 0.0)
        self._graded: dict[str, None] = {}

    def count(self, item: Item, graded: list[str]) -> None:
        """One item, and the columns that its probabilities come from."""
        self._n["group"] += bool(item.group)
        self._n["split"] += bool(item.given_split)
        self._n["soft"] += item.soft_label is not None
        if item.weight != 1:
            low, high = self._weights
            self._n["weight"] += 1
            self._weights = min(low, item.weight), max(high, item.weight)
        if item.soft_label is not None:
            self._graded |= dict.fromkeys(graded)

    def remarks(self, group: str, split: str, weight: str) -> Iterator[Remark]:
        """One line per column, and how to keep it as mere metadata.

        The arguments are the columns' names.
        """
        low, high = self._weights
        columns = [*self._graded][:EXAMPLES] + ["..."] * (len(self._graded) > EXAMPLES)
        meanings = {
            "group": (f"column {group}", "keeps rows of one value in one split", "group_column"),
            "split": (f"column {split}", "says which split a row is in", "split_column"),
            "weight": (
                f"column {weight}",
                f"says how much a row counts in training ({low:g} to {high:g})",
                "weight_column",
            ),
            "soft": (
                f"columns {', '.join(columns)}",
                "say how probable each class is: a soft label",
                "probability_prefix",
            ),
        }
        for key, (column, effect, setting) in meanings.items():
            if n := self._n[key]:
                yield Remark(
                    f"{column} {effect}, in {n} row{'s' * (n > 1)}; if it means something else, "
                    f'set {setting}: "" in ingest.source'
                )
