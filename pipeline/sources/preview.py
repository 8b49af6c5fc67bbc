"""What a source would give, in seconds: counts, reasons, and a sample that is decoded."""

from collections import Counter
from collections.abc import Iterable, Mapping

from pipeline.sources import Item, Remark, Skipped
from pipeline.sources.ledger import Verified
from pipeline.sources.names import alike
from pipeline.sources.verify import verified

SAMPLE = 256  # images decoded; a second or two
EXAMPLES = 3  # names printed per reason
REASONS = 20  # printed: a listing may have as many reasons as rows
UNLABELLED = "(unlabelled)"
FEW, ENOUGH = 30, 100  # images of a class from which on figures mean something, and a good start


def describe(source: Iterable[Item | Skipped | Remark], max_pixels: int) -> str:
    """For people: images per class and split, and what is left out, by reason.

    Only the items of the sample stay in memory: every image of a small source, else every n-th.
    """
    counts = _Counts()
    for entry in source:
        counts.add(entry)
    ids = []
    for outcome in verified(counts.sample, max_pixels):
        if isinstance(outcome, Verified):
            ids.append(outcome.id)
        elif isinstance(outcome, Skipped):
            counts.reasons.setdefault(outcome.reason, []).append(outcome.name)
    labels = counts.labels
    n_repeated = len(ids) - len(set(ids))
    return "\n".join(
        [
            f"{labels.total()} files in {len(labels.keys() - {UNLABELLED})} classes",
            *_lines("class", labels),
            *_lines("split", counts.splits),
            *(f"  {remark}" for remark in counts.remarks),
            _checked(len(counts.sample), len(ids), n_repeated, labels.total()),
            *_left_out(counts.reasons),
            *one_or_several(alike(labels)),
            *few(labels),
            *["at least two classes are needed, or images without a label"]
            * (len(labels) < 2 and UNLABELLED not in labels),
        ]
    )


class _Counts:
    """What a source yields, counted, and a sample of it at equal steps."""

    def __init__(self) -> None:
        self.labels, self.splits = Counter[str](), Counter[str]()
        self.reasons: dict[str, list[str]] = {}
        self.remarks: list[str] = []
        self.sample: list[Item] = []
        self._step = 1

    def add(self, entry: Item | Skipped | Remark) -> None:
        if isinstance(entry, Skipped):
            self.reasons.setdefault(entry.reason, []).append(entry.name)
        elif isinstance(entry, Remark):
            self.remarks.append(entry.text)
        else:
            self._add_item(entry)

    def _add_item(self, item: Item) -> None:
        if self.labels.total() % self._step == 0:
            self.sample.append(item)
            if len(self.sample) > SAMPLE:
                self.sample, self._step = self.sample[::2], self._step * 2
        self.labels[item.label or UNLABELLED] += 1
        self.splits[item.given_split or "(to be dealt)"] += 1


def one_or_several(doubles: list[list[str]]) -> list[str]:
    """One line per group of classes whose names look alike."""
    return [
        f"the classes {', '.join(map(repr, names))} differ in case, spaces or joints only: "
        f"give them one name if they are one"
        for names in doubles
    ]


def few(labels: Mapping[str, int]) -> list[str]:
    """One line that names the classes of fewer than FEW images, the smallest first."""
    small = sorted(
        (n, name) for name, n in labels.items() if name not in ("", UNLABELLED) and n < FEW
    )
    if not small:
        return []
    named = ", ".join(f"{n} of {name}" for n, name in small[:EXAMPLES])
    more = f" and {len(small) - EXAMPLES} more classes" if len(small) > EXAMPLES else ""
    return [
        f"few images: {named}{more}; 3 a class is too few, from about {FEW} figures mean "
        f"something, about {ENOUGH} is a good start"
    ]


def _lines(title: str, counts: Counter[str]) -> list[str]:
    return [f"  {title} {name}: {n}" for name, n in sorted(counts.items())]


def _checked(n_sample: int, n_read: int, n_repeated: int, n: int) -> str:
    which = (
        "all"
        if n_sample == n
        else f"a sample of {n_sample}, one in {max(1, round(n / max(1, n_sample)))}"
    )
    return (
        f"decoded {which}: {n_read} are images, {n_sample - n_read} are not, {n_repeated} "
        f"are exact duplicates"
    )


def _left_out(reasons: dict[str, list[str]]) -> list[str]:
    if not reasons:
        return ["nothing else would be left out"]
    lines = [f"left out, {sum(map(len, reasons.values()))} in all:"]
    ranked = sorted(reasons.items(), key=lambda pair: -len(pair[1]))  # ties in the order met
    for reason, names in ranked[:REASONS]:
        more = ", ..." if len(names) > EXAMPLES else ""
        lines.append(f"  {len(names)} x {reason}: {', '.join(names[:EXAMPLES])}{more}")
    rest = [len(names) for _, names in ranked[REASONS:]]
    return lines + [f"  {sum(rest)} more, for {len(rest)} other reasons"] * bool(rest)
