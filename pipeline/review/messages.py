"""Schemas of the review page's requests and answers.

Labels are class names, "" for none; fractions are 0 to 1.
"""

from typing import Literal

from pydantic import BaseModel, Field

AT_ONCE = 500  # images in one answer or one action


class VoteOut(BaseModel):
    by: str
    decision: str
    label: str
    when: str


class Neighbour(BaseModel):
    id: str
    name: str
    label: str
    twin: bool = Field(description="a near-duplicate with another label")


class Item(BaseModel):
    """An image to decide on; labels are class names, "" for none."""

    id: str
    name: str
    label: str = Field(description="the given label, before any decision")
    suggested_label: str
    chance: float = Field(
        description="0 to 1; the probability of the suggested label by a model of the labels so "
        "far, where no label is given"
    )
    suspect_score: float = Field(
        description="0 to 1; how little a model of the other images agrees with the label, by its "
        "probability and by how far the likeliest other class is ahead"
    )
    kinds: list[str]
    predicted: str = Field(
        description="the class by the model in production, of an image from feedback"
    )
    width_px: int
    height_px: int
    split: str
    votes: list[VoteOut]
    conflict: bool
    neighbours: list[Neighbour]


class Progress(BaseModel):
    n: int
    n_decided: int
    expected_wrong: float | None = Field(
        description="how many of the n labels are expected to be wrong; null for other kinds"
    )


class Action(BaseModel):
    when: str
    ids: list[str]


class Summary(BaseModel):
    """What the page shows around the image."""

    by: str
    classes: list[str]
    kinds: dict[str, Progress]
    last: Action
    care: str = Field(description="what control images say, once all are answered; else empty")


class Decision(BaseModel):
    """One person's decision on one or several images; `new` confirms a new class."""

    ids: list[str] = Field(min_length=1, max_length=AT_ONCE)
    decision: Literal["keep", "relabel", "drop", "unsure"]
    label: str = Field(default="", max_length=200)
    new: bool = False


class Undo(BaseModel):
    when: str = Field(description="the time of the action, which names it")


class Done(BaseModel):
    when: str
    ids: list[str]
    summary: Summary


class Problem(BaseModel):
    detail: str


class Member(BaseModel):
    id: str
    name: str


class Group(BaseModel):
    """Similar images without a label; `label` is a proposal, "" before there is a model."""

    label: str
    probability: float = Field(description="the mean over the members")
    members: list[Member]


class Point(BaseModel):
    n: int = Field(description="labels")
    accuracy: float = Field(description="cross-validated on the labels so far")


class Growth(BaseModel):
    """How accuracy grew with the labels so far, and how it may go on."""

    measured: list[Point]
    expected: list[Point]
