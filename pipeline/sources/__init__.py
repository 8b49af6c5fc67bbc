"""Where images come from. A source is a function that yields Item, Skipped and Remark.

It yields them in the same order every time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline import redacted


@dataclass(frozen=True)
class Item:
    """One image of a source; `load` returns the file's bytes and may be called from any thread.

    "" stands for none; `given_split` is "", "train", "val" or "test". Images that share a `group`
    belong in one split. `stratum` is a further key to stratify over. `soft_label` is a probability
    for each class. `weight`, finite and not negative, is how much the image counts in training. Two
    items of one `stamp` have the same bytes, now and in any later run; "" promises nothing.
    """

    name: str
    load: Callable[[], bytes]
    label: str
    soft_label: dict[str, float] | None = None
    group: str = ""
    stratum: str = ""
    given_split: str = ""
    weight: float = 1.0
    metadata: dict[str, object] = field(default_factory=dict)
    stamp: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", redacted(self.name))  # it goes into every record


@dataclass(frozen=True)
class Skipped:
    """Something in the source that is left out; the reason is for people."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", redacted(self.name))
        object.__setattr__(self, "reason", redacted(self.reason))


@dataclass(frozen=True)
class Remark:
    """A note on the whole source, for people: how it reads what could mean something else."""

    text: str
