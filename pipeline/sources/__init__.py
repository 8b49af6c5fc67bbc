"""Where images come from: a source is a function that yields Item, Skipped and Remark, always in the
same order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline import redacted


@dataclass(frozen=True)
class Item:
    """One image that a source knows of; `load` gives the file's bytes and may be called from any
    thread.

    "" stands for none; `given_split` is "", "train", "val" or "test". Images that share a `group`
    belong in one split, `stratum` is a further key to stratify over, `soft_label` a probability for
    each class; `weight`, finite and not negative, says how much the image counts in what is
    learned. Two items of one `stamp` have the same bytes, now and in any later run; "" promises
    nothing.
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
    """Something that a source met and leaves out; the reason is for people."""

    name: str
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", redacted(self.name))
        object.__setattr__(self, "reason", redacted(self.reason))


@dataclass(frozen=True)
class Remark:
    """What a source says of the whole, for people: how it reads what could mean something else."""

    text: str
