"""Schemas of requests and answers, as in the OpenAPI document."""

from typing import Any

from pydantic import BaseModel, Field


class Images(BaseModel):
    """Several images as JSON."""

    images: list[str] = Field(
        min_length=1,
        description="image files, each in base64: plain, URL-safe or as a data: URL",
    )


class Named(BaseModel):
    """A version of the registered model; of an exported folder, a hash."""

    name: str
    version: str


class Chance(BaseModel):
    """A class with its calibrated probability."""

    class_: str = Field(serialization_alias="class", validation_alias="class")
    prob: float


class Prediction(BaseModel):
    """The model's prediction for one image."""

    id: str = Field(description="identifies this prediction in records and feedback")
    top: list[Chance] = Field(description="the likeliest classes, best first")
    abstain: bool = Field(description="the best probability is below the threshold: ask a person")
    ood: bool = Field(description="the image is unlike those the model was trained on")
    ood_score: float
    set: list[str] | None = Field(
        None,
        description="with set=true: the classes that may be the right one, likeliest first; at the "
        "share of images that /model names as `level`, the right one is among them. Where no class "
        "is likely enough, the likeliest alone. null where the export is older than such sets",
    )
    explanation: str | None = Field(
        None,
        description="with explain=true: where the model looked, a PNG in base64; null where "
        "the server was too busy to compute it in time",
    )


class Latency(BaseModel):
    """Milliseconds for decoding, for the engine with its queue, and in all after the upload."""

    decode: float
    engine: float
    total: float


class Answer(BaseModel):
    """One prediction per image, in the order of the request."""

    model: Named
    predictions: list[Prediction]
    latency_ms: Latency


class Refused(BaseModel):
    """A promoted version that is not served, and the reason."""

    version: str
    reason: str


class About(Named):
    """The current model."""

    classes: list[str]
    size_px: int
    engine: str
    since: float = Field(description="seconds since 1970")
    thresholds: dict[str, Any]
    refused: Refused | None = Field(
        description="a newer version that failed its checks; this one stays in use"
    )


class Health(BaseModel):
    """The status for a load balancer."""

    status: str


class Problem(BaseModel):
    """An error (RFC 9457), sent as application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
