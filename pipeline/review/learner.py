"""Learns proposals from the labels so far, in the background."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from pipeline.review.board import Board

if TYPE_CHECKING:
    from pipeline.review.proposals import Guess, Map

EVERY = 10  # new labels before learning again


class Learner:
    """Proposals for the unlabelled images of a board; before the first model, by similarity alone."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._map: tuple[object, Map] | None = None
        self._learned_from: dict[int, str] = {}
        self._running: threading.Thread | None = None
        self.guessed: Guess | None = None
        self.growth: list[tuple[int, float]] = []

    def groups(self, n: int) -> list[list[int]]:
        """The next groups to label at once, the most informative first; no image is in two groups."""
        # Imported here: scikit-learn takes a second, and a review of suspects does not need it.
        from pipeline.review import proposals

        where, labels = self.survey(), self._labels()
        self.learn(labels)
        return proposals.groups(where, self._waiting(), [*labels], self.guessed, n=n)

    def one_by_one(self) -> list[int]:
        """The unlabelled images, the most informative first."""
        from pipeline.review import proposals

        where = self.survey()
        self.learn(self._labels())
        return proposals.one_by_one(where, self._waiting(), self.guessed)

    def proposed(self, row: int) -> tuple[str, float]:
        """The likeliest class of an image and its probability; ("", 0) before there is a model."""
        guessed = self.guessed
        if guessed is None or row >= len(guessed.label):  # images from feedback are not on the map
            return "", 0.0
        return guessed.label[row], float(guessed.probability[row])

    def survey(self) -> Map:
        """The map of the images; made at the first call, and again after another label-check."""
        from pipeline.review import proposals

        embedding = self._board.findings.embedding
        with self._lock:
            if self._map is None or self._map[0] is not embedding:
                self._map = (embedding, proposals.survey(np.asarray(embedding)))
                self._learned_from, self.guessed = {}, None
            return self._map[1]

    def learn(self, labels: dict[int, str]) -> None:
        """Start learning where enough labels have changed and no learning is under way."""
        changed = len(dict(labels.items() ^ self._learned_from.items()))
        idle = self._running is None or not self._running.is_alive()
        if idle and changed >= min(EVERY, 2 + len(self._learned_from)):
            self._learned_from = labels
            self._running = threading.Thread(target=self._learn, args=(labels,), daemon=True)
            self._running.start()

    def wait(self) -> None:
        """Wait until no learning is under way."""
        if self._running is not None:
            self._running.join()

    def _learn(self, labels: dict[int, str]) -> None:
        from pipeline.review import proposals

        where, rows, names = self.survey(), [*labels], [*labels.values()]
        self.guessed = proposals.guess(where, rows, names)
        self.growth = proposals.growth(where, rows, names)

    def _labels(self) -> dict[int, str]:
        return {
            row: label
            for row, label in self._board.labels_now().items()
            if not self._board.from_feedback(row)
        }

    def _waiting(self) -> list[int]:
        return self._board.queue("unlabelled", decided=False)
