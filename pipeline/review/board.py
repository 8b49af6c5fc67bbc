"""The board that the page shows: what label-check found, what people said, and what is still to
decide.
"""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from pipeline import FieldmarkError
from pipeline.feedback.inbox import class_name
from pipeline.labels import decisions
from pipeline.labels.decisions import Line, Spoken
from pipeline.review import findings
from pipeline.review.arrivals import Arrivals

LATER = timedelta(milliseconds=1)
OWN_KINDS = ("conflict", "unsure", "decided")  # kinds that follow from what people said


class Refused(FieldmarkError):
    """A decision that makes no sense; the message says why, fit for the page."""


class Board:
    """Findings and decisions of one project folder; both are read again when their files change."""

    def __init__(self, project: Path, by: str, *, blur_faces: bool = False) -> None:
        """`blur_faces`: images that came as feedback wait until faces in them are blurred."""
        self.by = by
        self._found_in, self._said_in = (
            project / "data" / "label-check",
            project / "data" / "decisions",
        )
        self._lock_file = project / ".fieldmark" / "decisions.lock"
        self._lock = threading.RLock()
        self._stamps: tuple[object, object] = (None, None)
        self._last = datetime.min.replace(tzinfo=UTC)
        self._arrivals = Arrivals(project, blur_faces=blur_faces)
        self._waiting = self._arrivals.waiting()
        self._checked = findings.load(self._found_in)
        self._take()
        self._spoken: Spoken = {}
        self.votes: dict[int, list[Line]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take in what `dvc repro`, another person or an editor changed on disk."""
        with self._lock:
            found, said = (
                decisions.stamp(self._found_in / "table.parquet"),
                decisions.stamp(self._said_in / decisions.FILE),
            )
            fresh = found not in (None, self._stamps[0]) and self._stamps[0] is not None
            waiting = self._arrivals.waiting()
            more = waiting != self._waiting
            if fresh:
                self._checked = findings.load(self._found_in)
            if fresh or more:
                self._waiting = waiting
                self._take()
            if more or (found, said) != self._stamps:
                self._read_votes()
            self._stamps = (found or self._stamps[0], said)

    def classes(self) -> list[str]:
        """Every label in use, given or said by someone."""
        said = {vote.label for votes in self.votes.values() for vote in votes}
        return sorted((self._given | said) - {""})

    def queue(self, kind: str, *, decided: bool) -> list[int]:
        """The rows of a kind in the order to look at them; `decided` adds those that someone has
        decided.
        """
        votes = self.votes  # another request may replace it meanwhile
        if kind == "conflict":
            return [row for row, each in votes.items() if len(each) > 1 and self.in_conflict(row)]
        if kind == "unsure":
            return [
                row for row, each in votes.items() if "unsure" in [vote.decision for vote in each]
            ]
        if kind == "decided":
            return sorted(
                votes, key=lambda row: max(vote.instant for vote in votes[row]), reverse=True
            )
        rows = self.found.kinds.get(kind, [])
        return rows if decided else [row for row in rows if row not in votes]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Kind -> how many rows, and how many of them are decided."""
        found = {
            kind: (len(rows), sum(row in self.votes for row in rows))
            for kind, rows in self.found.kinds.items()
        }
        own = {
            kind: (len(self.queue(kind, decided=True)), 0)
            for kind in OWN_KINDS
            if kind != "decided"
        }
        return {**found, **own, "decided": (len(self.votes), 0)}

    def kinds_of(self, row: int) -> list[str]:
        """All findings on one image."""
        return [kind for kind, rows in self._members.items() if row in rows]

    def neighbours(self, row: int) -> list[tuple[int, bool]]:
        """Rows to compare with, and whether each is a near-duplicate with another label; those come
        first.
        """
        if self.from_feedback(row):
            return []
        twins = self.found.twins.get(row, [])
        others = [int(other) for other in self.found.neighbours[row] if other not in twins]
        return [*((twin, True) for twin in twins), *((other, False) for other in others)]

    def label_now(self, row: int) -> str:
        """What people agreed on, else the given label; "" where there is none."""
        votes = self.votes.get(row, [])
        agreed = votes[0].label if votes and not self.in_conflict(row) else ""
        return agreed or str(self.found.rows["given_label"].iat[row])

    def labels_now(self) -> dict[int, str]:
        """Every label that holds, by row: the given ones first, then those that people said, by
        time.
        """
        votes = self.votes
        left_out = {
            row
            for row, each in votes.items()
            if self.in_conflict(row) or each[0].decision in ("drop", "unsure")
        }
        said = sorted(votes, key=lambda row: votes[row][0].instant)
        given = (
            int(row)
            for row in np.flatnonzero(self.found.rows["given_label"] != "")
            if row not in votes
        )
        return {
            row: self.label_now(row)
            for row in [*given, *said]
            if row not in left_out and self.label_now(row)
        }

    def in_conflict(self, row: int) -> bool:
        """Whether people say different things about the image."""
        return len({(vote.decision, vote.label) for vote in self.votes.get(row, [])}) > 1

    def decide(self, ids: Sequence[str], decision: str, label: str, *, new: bool) -> str:
        """Write one person's decision on these images, at once; returns the time that names this
        action.

        What the person says already is not written again, so an answer that got lost may be asked
        for twice. A label that is the given one is a keep. Raises Refused for an unknown image, and
        for an unknown class unless `new`.
        """
        with self._lock:
            self.refresh()
            rows = [self.row(id) for id in ids]
            label = self._label(decision, label, new=new)
            when = self._now()
            lines, same = [], []
            for id, row in zip(ids, rows, strict=True):
                said = self._fitting(row, decision, label)
                mine = next((vote for vote in self.votes.get(row, []) if vote.by == self.by), None)
                if mine and (mine.decision, mine.label) == said:
                    same.append(mine.when)
                else:
                    lines.append([id, *said, self.by, when])
            self._write(lines)
            self._settle([self.row(id) for id in ids])
            return when if lines else max(same, default="")

    def undo(self, when: str) -> list[str]:
        """Take back this person's action of that time, as far as it still holds; the ids
        concerned.
        """
        with self._lock:
            self.refresh()
            rows = [
                row
                for row, votes in self.votes.items()
                if any(v.by == self.by and v.when == when for v in votes)
            ]
            ids = [self.found.ids[row] for row in rows]
            now = self._now()
            self._write([[id, decisions.WITHDRAW, "", self.by, now] for id in ids])
            self._settle(rows)
            return ids

    def last_action(self) -> tuple[str, list[int]]:
        """Time and rows of this person's latest action that still holds; ("", []) for none."""
        mine = [
            (vote, row) for row, votes in self.votes.items() for vote in votes if vote.by == self.by
        ]
        when = max((vote for vote, _ in mine), key=lambda vote: vote.instant).when if mine else ""
        return when, sorted(row for vote, row in mine if vote.when == when)

    def picture(self, id: str) -> bytes:
        """The PNG of an image that came as feedback; KeyError for any other."""
        return self._arrivals.picture(id)

    def from_feedback(self, row: int) -> bool:
        """Whether the image came as feedback and is not in the data yet."""
        return row >= len(self._checked.ids)

    def _take(self) -> None:
        self.found = findings.with_feedback(self._checked, self._waiting)
        self._members = {kind: set(rows) for kind, rows in self.found.kinds.items()}
        self._given = {*self.found.rows["given_label"].unique(), *self.found.rows["label"].unique()}

    def _settle(self, rows: Sequence[int]) -> None:
        """What came as feedback lies in data/feedback as long as it has a label that people agree
        on.
        """
        for row in filter(self.from_feedback, rows):
            labelled = bool(self.label_now(row)) and row in self.labels_now()
            self._arrivals.settle(self.found.ids[row], accepted=labelled)

    def row(self, id: str) -> int:
        """The row of an image; raises Refused for one that is not there."""
        if id not in self.found.row_of:
            raise Refused("This image is not in the data any more; reload the page.")
        return self.found.row_of[id]

    def _label(self, decision: str, label: str, *, new: bool) -> str:
        if decision != "relabel":
            return ""
        known = self.classes()
        label = class_name(label, known)
        if not label:
            raise Refused("A class needs a name of visible characters.")
        if label not in known and not new:
            raise Refused(f"There is no class {label!r} yet; confirm that it is new.")
        return label

    def _fitting(self, row: int, decision: str, label: str) -> tuple[str, str]:
        given = self.found.rows["given_label"].iat[row]
        if decision == "keep" and not given:
            raise Refused("This image has no label to keep.")
        return ("keep", "") if label and label == given else (decision, label)

    def _now(self) -> str:
        """Later than anything this person said before, even where a clock was set back."""
        self._last = max(datetime.now(UTC), self._last + LATER)
        return self._last.isoformat(timespec="milliseconds")

    def _write(self, lines: list[list[str]]) -> None:
        if lines:
            before, after = decisions.append(self._said_in, lines, self._lock_file)
            if (
                before == self._stamps[1]
            ):  # nobody else wrote: all other lines are known, and there may be thousands to read
                self._hear([decisions.line(*fields) for fields in lines], {**self.votes})
                self._stamps = (self._stamps[0], after)
            self.refresh()

    def _read_votes(self) -> None:
        lines = decisions.by_time(decisions.read(self._said_in))
        self._spoken = {}
        self._hear(lines, votes={})

    def _hear(self, lines: Sequence[Line], votes: dict[int, list[Line]]) -> None:
        """Replace the votes by these and what the lines add to them; nobody has said anything of an
        image later than they do.
        """
        for line in lines:
            decisions.hear(self._spoken, line)
            if line.by == self.by:
                self._last = max(self._last, line.instant.astimezone(UTC))
        for id in dict.fromkeys(line.id for line in lines if line.id in self.found.row_of):
            said = [of_one[-1] for of_one in self._spoken[id].values() if of_one]
            votes[self.found.row_of[id]] = sorted(said, key=lambda line: line.instant)
        self.votes = {row: said for row, said in votes.items() if said}
