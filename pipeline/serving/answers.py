"""What goes over the wire: the schemas of requests and answers, as the OpenAPI document shows
them.
"""

from typing import Any

from pydantic import BaseModel, Field


class Images(BaseModel):
    """Several images as JSON."""

    images: list[str] = Field(
        min_length=1,
        description="files of images, each in base64: plain or URL-safe, or a data: URL",
    )


class Named(BaseModel):
    """A version of the registered model, or a hash in its place for an exported folder."""

    name: str
    version: str


class Chance(BaseModel):
    """A class with its calibrated probability."""

    class_: str = Field(serialization_alias="class", validation_alias="class")
    prob: float


class Prediction(BaseModel):
    """What the model says of one image."""

    id: str = Field(description="names this prediction in records and feedback")
    top: list[Chance] = Field(description="the likeliest classes, best first")
    abstain: bool = Field(
        description="the best probability is below the threshold: better ask a person"
    )
    ood: bool = Field(description="the image is unlike those the model was trained on")
    ood_score: float
    explanation: str | None = Field(
        None,
        description="with explain=true: where the model looked, a PNG in base64; null where "
        "the server was too busy to find out in time",
    )


class Latency(BaseModel):
    """Milliseconds: decoding, waiting for the engine and its run, and all from the last byte of the
    upload.
    """

    decode: float
    engine: float
    total: float


class Answer(BaseModel):
    """One prediction an image, in the order sent."""

    model: Named
    predictions: list[Prediction]
    latency_ms: Latency


class Refused(BaseModel):
    """A version that was promoted and is not served, and why."""

    version: str
    reason: str


class About(Named):
    """The model that answers now."""

    classes: list[str]
    size_px: int
    engine: str
    since: float = Field(description="seconds since 1970")
    thresholds: dict[str, Any]
    refused: Refused | None = Field(
        description="a newer version that failed its checks, while this one goes on"
    )


class Health(BaseModel):
    """A word for a load balancer."""

    status: str


class Problem(BaseModel):
    """An error (RFC 9457), sent as application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
