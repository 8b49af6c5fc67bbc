"""The figures of a period of production, as the command, the page and the gauges show them."""

from pydantic import BaseModel


class Share(BaseModel):
    """A class: its count and share among predictions, and its share in the reference, if any."""

    name: str
    n: int
    share: float
    reference: float | None


class Slice(BaseModel):
    """A part of the period; `start` is in seconds since 1970.

    Figures are None where no request was answered.
    """

    start: float
    n: int
    failed: int
    p50_ms: float | None
    p95_ms: float | None
    confidence: float | None


class Accuracy(BaseModel):
    """The accuracy as fractions, by three methods, and in the reference.

    `low` and `high` are Wilson's 95 % interval of `right` among `labelled`. `in_reference_low` is
    the lower end of that interval in the reference. `by_threshold`, with its Wilson interval, and
    `by_confidence` are None where fewer than accuracy.FEWEST answers have a confidence.
    """

    in_reference: float | None
    in_reference_low: float
    by_confidence: float | None
    by_threshold: float | None
    by_threshold_low: float | None
    by_threshold_high: float | None
    labelled: int
    right: int
    low: float
    high: float


class Windows(BaseModel):
    """The drift tests of the windows of one size; `alarms` is how many of `n` had an alarm.

    `last_p` (test -> adjusted p-value) belongs to the last window. `alarming` counts alarms by test.
    """

    size: int
    n: int
    alarms: int
    level: float
    last_end: float
    last_p: dict[str, float]
    alarming: dict[str, int]


class Version(BaseModel):
    """The figures of one model version: counts of requests, latencies in milliseconds, and more.

    `statuses` counts the requests without a prediction: HTTP status -> n.
    """

    version: str
    n: int
    answered: int
    refused: int
    failed: int
    statuses: dict[int, int]
    first: float
    last: float
    latency_ms: dict[str, float]
    slow: int
    confidence: float | None
    confidence_in_reference: float | None
    classes: list[Share]
    accuracy: Accuracy
    drift: list[Windows]
    over_time: list[Slice]


class Summary(BaseModel):
    """From `since` to `until`, in seconds since 1970; `lost` records could not be written."""

    since: float
    until: float
    lost: int
    versions: list[Version]
