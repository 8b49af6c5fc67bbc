"""What serving needs of thresholds.json."""

from pydantic import BaseModel, Field


class Abstain(BaseModel):
    """The confidence below which the model abstains, and the risk it was chosen for."""

    confidence: float = Field(allow_inf_nan=False)
    target_risk: float | None = None


class Ood(BaseModel):
    """The score above which an image is strange."""

    score: float = Field(allow_inf_nan=False)


class Sets(BaseModel):
    """A class is in the set of an image where its probability is at least its least one.

    `level`: the share of images whose set contains their label; of each class, if `by_class`.
    """

    level: float = Field(gt=0, lt=1)
    by_class: bool
    least_probability: list[float]


class Thresholds(BaseModel):
    """What serving needs of thresholds.json; exports from before conformal sets have no `sets`."""

    abstain: Abstain
    ood: Ood
    sets: Sets | None = None
