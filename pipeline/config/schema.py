"""What conf/ and params.yaml may say: names, types and ranges. The values stand in conf/ alone."""

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

Metric = Literal["accuracy", "f1_macro", "log_loss"]


class Section(BaseModel):
    """Unknown keys, strings for numbers and numbers out of range are errors; nothing can be changed
    later.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Ingest(Section):
    source: dict[str, Any]
    max_megapixels: PositiveFloat
    max_file_megabytes: PositiveFloat = 500.0  # a file of conf/ingest/ may be older than this key


class Errors(Section):
    folds: int = Field(ge=2)
    C: PositiveFloat
    max_fraction: float = Field(gt=0, le=1)


class Duplicates(Section):
    max_hamming: int = Field(ge=0, le=64)
    min_cosine: float = Field(ge=-1, le=1)


class Quality(Section):
    dark: float = Field(ge=0, le=1)
    bright: float = Field(ge=0, le=1)
    blur: NonNegativeFloat
    low_information: NonNegativeFloat
    odd_size: float = Field(gt=1)
    odd_aspect: float = Field(gt=1)


class Fractions(Section):
    train: float = Field(gt=0, lt=1)
    val: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    def model_post_init(self, _: Any) -> None:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError("train, val and test must add up to 1")


class Audit(Section):
    fractions: list[Annotated[float, Field(gt=0, lt=1)]]
    max_images: PositiveInt
    verified: str | None


class Outliers(Section):
    deviations: PositiveFloat


class Classes(Section):
    min_images: NonNegativeInt
    max_imbalance: float = Field(ge=1)


class Correlates(Section):
    min_auc: float = Field(ge=0.5, le=1)
    ignore: list[str]


class LabelCheck(Section):
    size_px: int = Field(ge=8)
    errors: Errors
    audit: Audit
    duplicates: Duplicates
    neighbours: PositiveInt
    quality: Quality
    outliers: Outliers
    classes: Classes
    correlates: Correlates
    max_leakage: float = Field(ge=0, le=1)
    drop_suspects: bool
    fractions: Fractions


class Preprocess(Section):
    size_px: int = Field(ge=8)
    fit: Literal["stretch", "crop", "pad"]
    denoise: NonNegativeFloat
    clahe: NonNegativeFloat
    normalise_brightness: bool


class Augment(Section):
    symmetry: Literal["none", "flip", "d4"]
    balance_to: float = Field(ge=0, le=1)
    extra_per_image: NonNegativeInt
    policy: list[dict[str, Any]]


class Head(Section):
    kind: Literal["linear", "mlp", "svm", "logistic"]
    hidden: NonNegativeInt = 0
    dropout: float = Field(default=0.0, ge=0, lt=1)
    C: PositiveFloat = 1.0
    strengths: list[PositiveFloat] = Field(default=[1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0], min_length=1)


class Range(Section):
    """One hyperparameter to search: from low to high, or one of the choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: list[bool | int | float | str] | None = None

    def model_post_init(self, _: Any) -> None:
        numbers = self.low is not None and self.high is not None
        if numbers == (self.choices is not None):
            raise ValueError("give either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError("low must be below high")


class Fit(Section):
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    epochs: PositiveInt
    batch_size: PositiveInt
    label_smoothing: float = Field(ge=0, lt=1)
    class_weights: Literal["none", "balanced"]
    backbone_lr_scale: PositiveFloat


class FitChanges(Section):
    """What one candidate sets otherwise than conf/fit/."""

    lr: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None
    epochs: PositiveInt | None = None
    batch_size: PositiveInt | None = None
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] | None = None
    backbone_lr_scale: PositiveFloat | None = None


class Parts(Section):
    """The parts of a candidate: what describes an image, what decides on that, what tune may
    turn.
    """

    extractor: dict[str, Any]
    frozen: bool
    average_views: bool
    head: Head
    space: dict[str, Range] = {}

    def model_post_init(self, _: Any) -> None:
        if self.head.kind in ("svm", "logistic") and not self.frozen:
            raise ValueError(f"head.kind {self.head.kind} needs frozen: true")
        known = {f"fit.{name}" for name in Fit.model_fields}
        known |= {f"head.{name}" for name in Head.model_fields}
        known |= {f"extractor.{name}" for name in self.extractor} | {"average_views"}
        for key in self.space.keys() - known:
            raise ValueError(
                f"space: there is no {key} to search; there are {', '.join(sorted(known))}"
            )


class CandidateFile(Parts):
    """A file of conf/candidate/: of its fit it says only what differs from conf/fit/."""

    fit: FitChanges = FitChanges()


class Candidate(Parts):
    """An extractor with its head, and how it is fitted, in full: what is compared, tuned, evaluated
    and exported.
    """

    name: str
    fit: Fit

    @property
    def title(self) -> str:
        """What people call it: the network or descriptor, and how it is used."""
        kind = self.extractor.get("name", self.extractor["_target_"].rpartition(".")[-1])
        frozen = ", frozen" if self.frozen and "weights" in self.extractor else ""
        head = {"svm": " + SVM", "logistic": " + logistic regression"}.get(self.head.kind, "")
        return f"{kind}{frozen}{head}"


class ModelSearch(Section):
    train_fraction: float = Field(gt=0, le=1)
    metric: Metric
    latency_budget_ms: PositiveFloat
    latency_runs: PositiveInt


class Tune(Section):
    trials: PositiveInt
    metric: Metric
    startup_trials: PositiveInt
    prune_after_epochs: PositiveInt
    refit: Literal["dev", "train"]


class Bootstrap(Section):
    n_resamples: PositiveInt
    level: float = Field(gt=0, lt=1)


class Evaluate(Section):
    bootstrap: Bootstrap
    worst: NonNegativeInt
    min_slice: PositiveInt


class Export(Section):
    opset: int = Field(ge=18)
    parity_images: PositiveInt
    parity_tolerance: PositiveFloat
    latency_runs: PositiveInt
    registered_name: str
    target_risk: float = Field(gt=0, lt=1)
    risk_delta: float = Field(gt=0, lt=1)
    ood_quantile: float = Field(gt=0, lt=1)
    ood_components: PositiveInt
    share_pictures: bool


ImageFormat = Literal["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]


class Feedback(Section):
    keep: bool
    max_mb: PositiveFloat
    new_classes: bool


def _network(text: str) -> str:
    """An address or a network in its usual form."""
    return str(ipaddress.ip_network(text))


class Serving(Section):
    host: str
    port: int = Field(ge=0, le=65535)
    workers: PositiveInt
    hosts: list[str]
    root_path: str = Field(pattern=r"^(/[A-Za-z0-9_.~-]+)*$")
    proxies: list[Annotated[str, AfterValidator(_network)]]
    keys_file: str
    rate_per_s: PositiveFloat
    burst: PositiveInt
    poll_s: PositiveFloat
    max_batch: PositiveInt
    max_waiting: PositiveInt
    max_waiting_mb: PositiveFloat
    max_waiting_decoding_mb: PositiveFloat
    max_explained: PositiveInt
    max_connections: PositiveInt
    timeout_s: PositiveFloat
    drain_s: NonNegativeFloat
    decode_threads: PositiveInt
    max_decoding_mb: PositiveFloat
    max_upload_mb: PositiveFloat
    max_images: PositiveInt
    max_megapixels: PositiveFloat
    formats: list[ImageFormat] = Field(min_length=1)
    feedback: Feedback


class Drift(Section):
    alpha_per_day: float = Field(gt=0, lt=1)
    looks_per_day: int = Field(ge=1, le=1440)
    sizes: list[int] = Field(min_length=1)

    def model_post_init(self, _: Any) -> None:
        if min(self.sizes) < 20 or len(set(self.sizes)) < len(self.sizes):
            raise ValueError("sizes must differ, and be 20 images or more")
        if self.alpha_per_day / (len(self.sizes) * self.looks_per_day) < 1e-5:
            raise ValueError(
                "alpha_per_day / (looks_per_day x number of sizes) is below 1e-5, too small to "
                "be tested"
            )


class Monitor(Section):
    max_rows: PositiveInt
    hours: PositiveFloat
    every_s: PositiveFloat
    drift: Drift
    max_error_fraction: float = Field(gt=0, lt=1)
    max_p95_ms: PositiveFloat


class Promotion(Section):
    min_accuracy: float = Field(ge=0, le=1)
    alpha: float = Field(gt=0, lt=1)
    max_ece: float = Field(ge=0, le=1)
    max_latency_ms: PositiveFloat
    max_parity_difference: PositiveFloat
    max_leaks: NonNegativeInt
    robustness_floors: dict[str, float]

    def model_post_init(self, _: Any) -> None:
        for tag in self.robustness_floors:
            if not tag.startswith("robustness/"):
                raise ValueError(
                    f"robustness_floors: {tag} is no tag of a robustness figure; those begin "
                    f"with robustness/"
                )


# One schema a group of conf/.
GROUPS: dict[str, type[Section]] = {
    "ingest": Ingest,
    "label_check": LabelCheck,
    "preprocess": Preprocess,
    "augment": Augment,
    "candidate": CandidateFile,
    "fit": Fit,
    "model_search": ModelSearch,
    "tune": Tune,
    "evaluate": Evaluate,
    "export": Export,
    "serving": Serving,
    "monitor": Monitor,
    "promotion": Promotion,
}
