"""The board that the page shows: findings of label-check, people's decisions, and open images."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from pipeline.feedback.inbox import class_name
from pipeline.labels import decisions
from pipeline.labels.decisions import Line, Spoken
from pipeline.review import findings
from pipeline.review.arrivals import Arrivals
from pipeline.review.findings import Shown
from pipeline.review.votes import OWN_KINDS, Refused, Votes, in_conflict, is_left_out, rows_of_kind

LATER = timedelta(milliseconds=1)


class Board:
    """Findings and decisions of one project folder, read again when their files change."""

    def __init__(self, project: Path, by: str, *, blur_faces: bool = False) -> None:
        """`blur_faces`: an image from feedback is shown only after its faces are blurred."""
        self.by = by
        self._findings_folder = project / "data" / "label-check"
        self._decisions_folder = project / "data" / "decisions"
        self._lock_file = project / ".fieldmark" / "decisions.lock"
        self._lock = threading.RLock()
        self._stamps: tuple[object, object] = (None, None)
        self._last = datetime.min.replace(tzinfo=UTC)
        self._arrivals = Arrivals(project, blur_faces=blur_faces)
        self._waiting = self._arrivals.waiting()
        self._checked = findings.load(self._findings_folder)
        self._merge()
        self._spoken: Spoken = {}
        self.votes: Votes = {}
        self.refresh()

    def refresh(self) -> None:
        """Read again what `dvc repro`, another person or an editor changed on disk."""
        with self._lock:
            checked = decisions.stamp(self._findings_folder / "table.parquet")
            decided = decisions.stamp(self._decisions_folder / decisions.FILE)
            fresh = checked not in (None, self._stamps[0]) and self._stamps[0] is not None
            waiting = self._arrivals.waiting()
            more = waiting != self._waiting
            if fresh:
                self._checked = findings.load(self._findings_folder)
            if fresh or more:
                self._waiting = waiting
                self._merge()
            if more or (checked, decided) != self._stamps:
                self._read_votes()
            self._stamps = (checked or self._stamps[0], decided)

    def classes(self) -> list[str]:
        """Every label in use, from the data or from a decision."""
        decided = {vote.label for votes in self.votes.values() for vote in votes}
        return sorted((self._given | decided) - {""})

    def queue(self, kind: str, *, decided: bool) -> list[int]:
        """The rows of a kind, in the order of review; `decided` includes the decided ones."""
        votes = self.votes  # another request may replace it meanwhile
        if kind in OWN_KINDS:
            return rows_of_kind(votes, kind)
        rows = self.findings.kinds.get(kind, [])
        return rows if decided else [row for row in rows if row not in votes]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Kind -> the number of rows, and of decided rows."""
        checked = {
            kind: (len(rows), sum(row in self.votes for row in rows))
            for kind, rows in self.findings.kinds.items()
        }
        own = {
            kind: (len(self.queue(kind, decided=True)), 0)
            for kind in OWN_KINDS
            if kind != "decided"
        }
        return {**checked, **own, "decided": (len(self.votes), 0)}

    def expected_wrong(self, kind: str) -> float | None:
        """How many labels of a kind are expected to be wrong; None for a kind that doubts none."""
        return self.findings.expected_wrong(kind)

    def shown(self, row: int) -> Shown:
        """What the page shows of an image."""
        return self.findings.shown(row)

    def care(self) -> str:
        """What control images say of the person; "" without any, see controls.py."""
        return ""

    def kinds_of(self, row: int) -> list[str]:
        """All kinds of findings on one image."""
        return [kind for kind, rows in self._members.items() if row in rows]

    def neighbours(self, row: int) -> list[tuple[int, bool]]:
        """Rows to compare with, and whether each is a twin: a near-duplicate with another label.

        Twins come first.
        """
        if self.from_feedback(row):
            return []
        twins = self.findings.twins.get(row, [])
        others = [int(other) for other in self.findings.neighbours[row] if other not in twins]
        return [*((twin, True) for twin in twins), *((other, False) for other in others)]

    def label_now(self, row: int) -> str:
        """The label on which people agree, else the given label; "" where there is none."""
        votes = self.votes.get(row, [])
        agreed = votes[0].label if votes and not self.in_conflict(row) else ""
        return agreed or str(self.findings.rows["given_label"].iat[row])

    def labels_now(self) -> dict[int, str]:
        """Every label that holds, by row: the given ones first, then people's, by time."""
        votes = self.votes
        decided = sorted(votes, key=lambda row: votes[row][0].instant)
        labelled = np.flatnonzero(self.findings.rows["given_label"] != "")
        undecided = (int(row) for row in labelled if row not in votes)
        return {
            row: self.label_now(row)
            for row in [*undecided, *decided]
            if not is_left_out(votes, row) and self.label_now(row)
        }

    def in_conflict(self, row: int) -> bool:
        """Whether people decided differently about the image."""
        return in_conflict(self.votes, row)

    def decide(self, ids: Sequence[str], decision: str, label: str, *, new: bool) -> str:
        """Write one person's decision on these images; returns the time, which names this action.

        A decision that already holds is not written again, so a client may repeat a request. A
        relabel to the given label is a keep. Raises Refused for an unknown image, and for an unknown
        class unless `new`.
        """
        with self._lock:
            self.refresh()
            rows = [self.row(id) for id in ids]
            label = self._label(decision, label, new=new)
            when = self._now()
            lines, same = [], []
            for id, row in zip(ids, rows, strict=True):
                fitting = self._fitting(row, decision, label)
                mine = next((vote for vote in self.votes.get(row, []) if vote.by == self.by), None)
                if mine and (mine.decision, mine.label) == fitting:
                    same.append(mine.when)
                else:
                    lines.append([id, *fitting, self.by, when])
            self._write(lines)
            self._settle([self.row(id) for id in ids])
            return when if lines else max(same, default="")

    def undo(self, when: str) -> list[str]:
        """Undo this person's action of that time, as far as it still holds; returns the ids."""
        with self._lock:
            self.refresh()
            rows = [
                row
                for row, votes in self.votes.items()
                if any(v.by == self.by and v.when == when for v in votes)
            ]
            ids = [self.findings.ids[row] for row in rows]
            now = self._now()
            self._write([[id, decisions.WITHDRAW, "", self.by, now] for id in ids])
            self._settle(rows)
            return ids

    def last_action(self) -> tuple[str, list[int]]:
        """Time and rows of this person's latest action that still holds, or ("", [])."""
        mine = [
            (vote, row) for row, votes in self.votes.items() for vote in votes if vote.by == self.by
        ]
        when = max((vote for vote, _ in mine), key=lambda vote: vote.instant).when if mine else ""
        return when, sorted(row for vote, row in mine if vote.when == when)

    def picture(self, id: str) -> bytes:
        """The PNG of an image from feedback; KeyError for any other."""
        return self._arrivals.picture(id)

    def from_feedback(self, row: int) -> bool:
        """Whether the image is from feedback and not in the data yet."""
        return row >= len(self._checked.ids)

    def _merge(self) -> None:
        self.findings = findings.with_feedback(self._checked, self._waiting)
        self._members = {kind: set(rows) for kind, rows in self.findings.kinds.items()}
        self._given = {*self.findings.rows[["given_label", "label"]].to_numpy().ravel()}

    def _settle(self, rows: Sequence[int]) -> None:
        """Keep images from feedback in data/feedback as long as people agree on their label."""
        for row in filter(self.from_feedback, rows):
            labelled = bool(self.label_now(row)) and row in self.labels_now()
            self._arrivals.settle(self.findings.ids[row], accepted=labelled)

    def row(self, id: str) -> int:
        """The row of an image; raises Refused for an unknown one."""
        if id not in self.findings.row_of:
            raise Refused("This image is not in the data any more; reload the page.")
        return self.findings.row_of[id]

    def _label(self, decision: str, label: str, *, new: bool) -> str:
        if decision != "relabel":
            return ""
        classes = self.classes()
        label = class_name(label, classes)
        if not label:
            raise Refused("A class needs a name of visible characters.")
        if label not in classes and not new:
            raise Refused(f"There is no class {label!r} yet; confirm that it is new.")
        return label

    def _fitting(self, row: int, decision: str, label: str) -> tuple[str, str]:
        given = self.findings.rows["given_label"].iat[row]
        if decision == "keep" and not given:
            raise Refused("This image has no label to keep.")
        return ("keep", "") if label and label == given else (decision, label)

    def _now(self) -> str:
        """A time after this person's earlier decisions, even where a clock was set back."""
        self._last = max(datetime.now(UTC), self._last + LATER)
        return self._last.isoformat(timespec="milliseconds")

    def _write(self, lines: list[list[str]]) -> None:
        if lines:
            before, after = decisions.append(self._decisions_folder, lines, self._lock_file)
            # Nobody else wrote: skip the other lines, which may be thousands.
            if before == self._stamps[1]:
                self._add([decisions.line(*fields) for fields in lines], {**self.votes})
                self._stamps = (self._stamps[0], after)
            self.refresh()

    def _read_votes(self) -> None:
        lines = decisions.by_time(decisions.read(self._decisions_folder))
        self._spoken = {}
        self._add(lines, votes={})

    def _add(self, lines: Sequence[Line], votes: Votes) -> None:
        """Replace the votes by these and the lines, which are later than all other decisions."""
        for line in lines:
            decisions.hear(self._spoken, line)
            if line.by == self.by:
                self._last = max(self._last, line.instant.astimezone(UTC))
        for id in dict.fromkeys(line.id for line in lines if line.id in self.findings.row_of):
            last = [of_one[-1] for of_one in self._spoken[id].values() if of_one]
            votes[self.findings.row_of[id]] = sorted(last, key=lambda line: line.instant)
        self.votes = {row: each for row, each in votes.items() if each}
