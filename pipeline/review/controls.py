"""Control images: known labels among the suspects, which tell how careful a reviewer is.

Half of them are shown with a wrong label, and the right one as the suggestion: is the error seen?
Half are shown with the right label, and a wrong suggestion: does the suggestion sway? The answers
never become decisions. They lie in .fieldmark/controls, in the form of labels.csv. "Known" are labels
that label-check doubts least; nobody has verified them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.labels import decisions
from pipeline.labels.decisions import Line
from pipeline.review.board import Board
from pipeline.review.findings import Shown

SUSPECT = "suspect"
SURE = 0.5  # of the labels, the least doubted


class Control(NamedTuple):
    """What is shown beside an image instead of what is known; planted: whether the label is wrong."""

    label: str
    suggested_label: str
    planted: bool


class ControlledBoard(Board):
    """A board with control images among its suspects, at random places."""

    def __init__(self, project: Path, by: str, n: int, *, blur_faces: bool = False) -> None:
        self._n = n
        self._chosen: tuple[object, object, dict[int, Control]] = (None, None, {})
        self._controls_folder = project / ".fieldmark" / "controls"
        super().__init__(project, by, blur_faces=blur_faces)

    def controls(self) -> dict[int, Control]:
        """By row; the same ones as long as label-check doubts the same labels. Chosen anew only where
        findings or votes are others: the page asks for every image that it shows.
        """
        findings, votes, chosen = self._chosen
        if findings is not self.findings or votes is not self.votes:
            chosen = self._choose()
            self._chosen = (self.findings, self.votes, chosen)
        return chosen

    def _choose(self) -> dict[int, Control]:
        rows, kinds = self.findings.rows, self.findings.kinds
        label, score = rows["given_label"].to_numpy(str), rows["suspect_score"].to_numpy(float)
        doubted = {row for of_kind in kinds.values() for row in of_kind} | {*self.votes}
        labelled = [row for row in np.flatnonzero(label != "").tolist() if row not in doubted]
        sure = sorted(labelled, key=lambda row: score[row])[: round(SURE * len(labelled))]
        chosen = sorted(sure, key=lambda row: self.findings.ids[row])[: self._n]  # ids are hashes
        return {
            row: Control(label[row], other, planted=False)
            if i % 2
            else Control(other, label[row], planted=True)
            for i, row in enumerate(chosen)
            if (other := self._other_class(row, label))
        }

    def queue(self, kind: str, *, decided: bool) -> list[int]:
        """Those of Board; control images stand among the suspects until they are answered."""
        rows = super().queue(kind, decided=True)
        if kind != SUSPECT:
            return super().queue(kind, decided=decided)
        places = np.random.default_rng(0).random(self._n) * len(rows)
        controls = self.controls()
        ranked = [*enumerate(rows), *zip(places.tolist(), controls, strict=False)]
        done = set() if decided else {*self.votes, *self._answered(controls)}
        return [row for _, row in sorted(ranked) if row not in done]

    def counts(self) -> dict[str, tuple[int, int]]:
        """Those of Board, with the control images among the suspects."""
        controls = self.controls()
        counts = super().counts()
        n, decided = counts[SUSPECT]
        beside = len(controls), len(self._answered(controls))
        return counts | {SUSPECT: (n + beside[0], decided + beside[1])}

    def expected_wrong(self, kind: str) -> float | None:
        """That of Board, and the wrong labels that are shown on purpose."""
        wrong = super().expected_wrong(kind)
        planted = sum(control.planted for control in self.controls().values())
        return wrong + planted if wrong is not None and kind == SUSPECT else wrong

    def kinds_of(self, row: int) -> list[str]:
        """Those of Board; a control image looks like a suspect."""
        return [SUSPECT] if row in self.controls() else super().kinds_of(row)

    def shown(self, row: int) -> Shown:
        """What is shown of an image; names, which often hold the class, are hidden for all."""
        shown = super().shown(row)._replace(name=f"photo {self.findings.ids[row][:8]}")
        control = self.controls().get(row)
        if control is None:
            return shown
        suspects = self.findings.kinds[SUSPECT] or [row]
        like = suspects[row % len(suspects)]
        return shown._replace(
            label=control.label,
            suggested_label=control.suggested_label,
            suspect_score=super().shown(like).suspect_score,
        )

    def decide(self, ids: Sequence[str], decision: str, label: str, *, new: bool) -> str:
        """As Board; what is said of control images is only noted."""
        controls = self.controls()
        noted = [id for id in ids if self.row(id) in controls]
        others = [id for id in ids if id not in noted]
        when = super().decide(others, decision, label, new=new) if others else ""
        if not noted:
            return when
        label = self._label(decision, label, new=new)
        answered = self._answered(controls)
        lines, now = [], when or self._now()
        for id in noted:
            row = self.row(id)
            keeps = label and label == controls[row].label
            answer = ("keep", "") if keeps else (decision, label)
            before = answered.get(row)
            if before and (before.decision, before.label) == answer:
                when = before.when
            else:
                lines.append([id, *answer, self.by, now])
        self._note(lines)
        return now if lines else when

    def undo(self, when: str) -> list[str]:
        """As Board; of control images, too."""
        answered = self._answered(self.controls())
        ids = [line.id for line in answered.values() if line.when == when]
        self._note([[id, decisions.WITHDRAW, "", self.by, self._now()] for id in ids])
        return [*super().undo(when), *ids]

    def last_action(self) -> tuple[str, list[int]]:
        """As Board; of control images, too."""
        when, rows = super().last_action()
        answered = self._answered(self.controls())
        last = max(answered.values(), key=lambda line: line.instant, default=None)
        if last is None or (when and last.instant <= decisions.line("", "", "", "", when).instant):
            return when, rows
        return last.when, [row for row, line in answered.items() if line.when == last.when]

    def care(self) -> str:
        """How careful this person was, once all control images are answered; "" before."""
        controls = self.controls()
        answered = self._answered(controls)
        if not controls or len(answered) < len(controls):
            return ""
        wrong = [row for row, control in controls.items() if control.planted]
        right = [row for row in controls if row not in wrong]
        found = sum(answered[row].label == controls[row].suggested_label for row in wrong)
        missed = sum(answered[row].decision == "keep" for row in wrong)
        kept = sum(answered[row].decision == "keep" for row in right)
        swayed = sum(answered[row].label == controls[row].suggested_label for row in right)
        return (
            f"{len(controls)} of these images were controls. Of {len(wrong)} that were shown with a "
            f"wrong label you corrected {found} and kept {missed}. Of {len(right)} that were shown "
            f"with the right label and a wrong suggestion you kept {kept} and took the suggestion for "
            f"{swayed}. None of these answers changes a label."
        )

    def _other_class(self, row: int, label: np.ndarray) -> str:
        """The class of the most similar image of another one, else any; "" where there is none."""
        near = [label[other] for other in self.findings.neighbours[row].tolist()]
        others = [
            each for each in [*near, *sorted({*label.tolist()})] if each not in ("", label[row])
        ]
        return str(others[0]) if others else ""

    def _answered(self, controls: dict[int, Control]) -> dict[int, Line]:
        """This person's last answer to each control image."""
        said = decisions.standing(decisions.read(self._controls_folder))
        mine = decisions.by_time(said[said["by"] == self.by])
        rows = {self.findings.row_of.get(line.id): line for line in mine}
        return {row: line for row, line in rows.items() if row is not None and row in controls}

    def _note(self, lines: list[list[str]]) -> None:
        if lines:
            self._controls_folder.mkdir(parents=True, exist_ok=True)
            decisions.append(self._controls_folder, lines, self._lock_file)
