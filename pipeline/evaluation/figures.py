"""A figure with all that it takes to believe it."""

from pydantic import BaseModel, ConfigDict


class Figure(BaseModel):
    """One number from n images; `low` and `high` bound it where an interval was computed."""

    model_config = ConfigDict(frozen=True)

    value: float
    n: int
    method: str
    meaning: str
    low: float | None = None
    high: float | None = None


Figures = dict[str, Figure]
