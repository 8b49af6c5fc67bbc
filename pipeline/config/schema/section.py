"""What all sections share."""

from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
)

Metric = Literal["accuracy", "f1_macro", "log_loss"]


class Section(BaseModel):
    """Unknown keys, strings for numbers and numbers out of range are errors; nothing can be changed
    later.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )
