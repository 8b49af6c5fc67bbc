"""What a source would give, in seconds: counts, reasons, and a decode of a sample."""

from collections import Counter
from collections.abc import Iterable

from pipeline.sources import Item, Remark, Skipped
from pipeline.sources.ledger import Verified
from pipeline.sources.names import alike
from pipeline.sources.verify import verified

SAMPLE = 256  # images decoded; a second or two
EXAMPLES = 3  # names shown for each reason
REASONS = 20  # shown: a listing whose every row is wrong has as many


def describe(source: Iterable[Item | Skipped | Remark], max_pixels: int) -> str:
    """For people: images a class and a split, and what is left out, by reason.

    Items are kept only where they are in the sample: every image of a small source, else one of
    each so many.
    """
    labels, splits, reasons = Counter[str](), Counter[str](), dict[str, list[str]]()
    sample: list[Item] = []
    remarks: list[str] = []
    step = 1
    for entry in source:
        if isinstance(entry, Skipped):
            reasons.setdefault(entry.reason, []).append(entry.name)
            continue
        if isinstance(entry, Remark):
            remarks.append(entry.text)
            continue
        if labels.total() % step == 0:
            sample.append(entry)
            if len(sample) > SAMPLE:
                sample, step = sample[::2], step * 2
        labels[entry.label or "(unlabelled)"] += 1
        splits[entry.given_split or "(to be dealt)"] += 1
    n_read, ids = 0, set[str]()
    for found in verified(sample, max_pixels):
        if isinstance(found, Verified):
            n_read += 1
            ids.add(found.id)
        elif isinstance(found, Skipped):
            reasons.setdefault(found.reason, []).append(found.name)
    n_repeated = n_read - len(ids)
    return "\n".join(
        [
            f"{labels.total()} files in {len(labels.keys() - {'(unlabelled)'})} classes",
            *_counts("class", labels),
            *_counts("split", splits),
            *(f"  {remark}" for remark in remarks),
            _checked(len(sample), n_read, n_repeated, labels.total()),
            *_left_out(reasons),
            *one_or_several(alike(labels)),
            *["at least two classes are needed, or images without a label"]
            * (len(labels) < 2 and "(unlabelled)" not in labels),
        ]
    )


def one_or_several(doubles: list[list[str]]) -> list[str]:
    """A line for each group of classes that read alike."""
    return [
        f"the classes {', '.join(map(repr, names))} differ in case, spaces or joints only: "
        f"give them one name if they are one"
        for names in doubles
    ]


def _counts(title: str, counts: Counter[str]) -> list[str]:
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
    ranked = sorted(reasons.items(), key=lambda pair: -len(pair[1]))  # on a tie as they were met
    for reason, names in ranked[:REASONS]:
        more = ", ..." if len(names) > EXAMPLES else ""
        lines.append(f"  {len(names)} x {reason}: {', '.join(names[:EXAMPLES])}{more}")
    rest = [len(names) for _, names in ranked[REASONS:]]
    return lines + [f"  {sum(rest)} more, for {len(rest)} other reasons"] * bool(rest)
