"""What people decided: for each row its votes, the last decision of each person, by time."""

from pipeline import FieldmarkError
from pipeline.labels.decisions import Line


class Refused(FieldmarkError):
    """An invalid decision; the message says why, and the page shows it."""


Votes = dict[int, list[Line]]
OWN_KINDS = ("conflict", "unsure", "decided")  # kinds that follow from votes, not from findings


def in_conflict(votes: Votes, row: int) -> bool:
    """Whether people decided differently about the image."""
    return len({(vote.decision, vote.label) for vote in votes.get(row, [])}) > 1


def rows_of_kind(votes: Votes, kind: str) -> list[int]:
    """The rows of one of OWN_KINDS; of `decided` the latest first."""
    if kind == "conflict":
        return [row for row in votes if in_conflict(votes, row)]
    if kind == "unsure":
        return [row for row, each in votes.items() if any(v.decision == "unsure" for v in each)]
    return sorted(votes, key=lambda row: max(vote.instant for vote in votes[row]), reverse=True)


def is_left_out(votes: Votes, row: int) -> bool:
    """Whether the votes leave the image without a label that holds."""
    each = votes.get(row, [])
    return in_conflict(votes, row) or (bool(each) and each[0].decision in ("drop", "unsure"))
