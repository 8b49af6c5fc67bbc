"""Sections of the stages that find a model: candidates, fit, tune."""

from typing import Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from pipeline.config.schema.defense import Defense
from pipeline.config.schema.section import Metric, Section


class Head(Section):
    kind: Literal["linear", "mlp", "svm", "svm_rbf", "logistic"]
    """What learns on the features."""
    hidden: NonNegativeInt = 0
    """Units of the hidden layer of an mlp."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Fraction of units left out at random while training."""
    C: PositiveFloat = 1.0
    """Inverse strength of regularisation of a support vector machine."""
    gamma: PositiveFloat = 0.3
    """How fast the Gaussian kernel of svm_rbf falls, over the number of features (standardised)."""
    landmarks: PositiveInt = 500
    """Training images, at most, that svm_rbf compares an image with."""
    strengths: list[PositiveFloat] = Field(default=[1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0], min_length=1)
    """Values of C that a logistic head tries by cross-validation; the models of those that are as
    good as the best are averaged.
    """


class Range(Section):
    """One hyperparameter to search: from low to high, or one of the choices."""

    low: float | None = None
    """Smallest value to try."""
    high: float | None = None
    """Largest value to try."""
    log: bool = False
    """Whether values are drawn on a logarithmic scale."""
    choices: list[bool | int | float | str] | None = None
    """Values to choose from, instead of a range."""
    when: dict[str, bool | int | float | str] = {}
    """It applies only where these settings have these values, such as head.kind: mlp."""

    def model_post_init(self, _: Any) -> None:
        numbers = self.low is not None and self.high is not None
        if numbers == (self.choices is not None):
            raise ValueError("give either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError("low must be below high")


class Fit(Section):
    lr: PositiveFloat
    """Highest learning rate of the one-cycle schedule (AdamW)."""
    weight_decay: NonNegativeFloat
    """Weight decay of AdamW."""
    epochs: PositiveInt
    """Full passes over the training images; the rate warms up and then falls to zero over
    them.
    """
    min_steps: NonNegativeInt = 0
    """Steps of the whole training, at least. Where few images would give fewer, each epoch passes
    over them as often as it takes.
    """
    batch_size: PositiveInt
    """Images in a step, at most; all batches of an epoch are of nearly the same size."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Fraction of each target that is spread over all classes."""
    class_weights: Literal["none", "balanced"]
    """none, or balanced: rare classes weigh more in the loss."""
    sampling: Literal["uniform", "balanced"] = "uniform"
    """uniform: a pass shows each image once; balanced: it draws as many, all classes as often."""
    backbone_lr_scale: PositiveFloat
    """Learning rate of the last stage of a backbone that is not frozen, as a multiple of lr."""
    stage_lr_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning rate of each earlier stage of it, as a multiple of that of the stage behind."""
    gradient_clip: NonNegativeFloat = 0.0
    """Norm that the gradient of a step is cut down to; 0: it is not."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Share of the running average of the weights that each step keeps; the average is what is
    validated and handed over. 0: there is none.
    """
    mixup: NonNegativeFloat = 0.0
    """Alpha of MixUp: the larger, the more evenly two images are mixed. 0: none. Only where images
    are learned from, not features of a frozen extractor.
    """
    cutmix: NonNegativeFloat = 0.0
    """Alpha of CutMix, which puts a part of one image into another. 0: none. With mixup, too, each
    batch takes one of both. Only where images are learned from.
    """
    start_px: NonNegativeInt = 0
    """Side that images are averaged down to in the first epoch; they grow until two thirds of the
    epochs. 0: they are whole from the beginning. Only where images are learned from.
    """
    patience: NonNegativeInt = 0
    """Epochs without a better value of patience_metric after which the training ends; the weights
    of the last epoch stay. 0: it never ends early. Nothing ends where no images validate, as when
    tune fits its best on train and val.
    """
    patience_metric: Metric = "log_loss"
    """What patience watches, on the validation images."""
    channels_last: bool = False
    """Whether the weights of convolutions lie channel by channel for each pixel, which is faster
    on some machines. Only where images are learned from.
    """


class FitChanges(Section):
    """What one candidate sets otherwise than conf/fit/."""

    lr: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = None
    epochs: PositiveInt | None = None
    min_steps: NonNegativeInt | None = None
    batch_size: PositiveInt | None = None
    label_smoothing: float | None = Field(default=None, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] | None = None
    sampling: Literal["uniform", "balanced"] | None = None
    backbone_lr_scale: PositiveFloat | None = None
    stage_lr_decay: float | None = Field(default=None, gt=0, le=1)
    gradient_clip: NonNegativeFloat | None = None
    ema_decay: float | None = Field(default=None, ge=0, lt=1)
    mixup: NonNegativeFloat | None = None
    cutmix: NonNegativeFloat | None = None
    start_px: NonNegativeInt | None = None
    patience: NonNegativeInt | None = None
    patience_metric: Metric | None = None
    channels_last: bool | None = None


class Parts(Section):
    """The parts of a candidate: what describes an image, what decides on that, what tune may
    turn.
    """

    extractor: dict[str, Any]
    """The module that turns an image into features, and its arguments."""
    frozen: bool = True
    """Whether the extractor stays as it is; false trains it, too."""
    trained_stages: PositiveInt | None = None
    """The last so many stages of a pretrained network that is not frozen learn. What lies below is
    computed once for each view of an image, and kept; so images are not augmented otherwise. null:
    all learn, on augmented images.
    """
    average_views: bool = True
    """Whether answers are averaged over every view of augment.symmetry."""
    head: Head = Head(kind="logistic")
    """What learns on the features."""
    space: dict[str, Range] = {}
    """What tune may turn: its place in the candidate, and its range."""

    def model_post_init(self, _: Any) -> None:
        if self.head.kind in ("svm", "svm_rbf", "logistic") and not self.frozen:
            raise ValueError(f"head.kind {self.head.kind} needs frozen: true")
        if self.frozen and self.trained_stages:
            raise ValueError("trained_stages needs frozen: false")
        known = {f"fit.{name}" for name in Fit.model_fields}
        known |= {f"head.{name}" for name in Head.model_fields}
        known |= {f"extractor.{name}" for name in self.extractor} | {"average_views"}
        for key in self.space.keys() - known:
            raise ValueError(
                f"space: there is no {key} to search; there are {', '.join(sorted(known))}"
            )
        for key, name in ((key, name) for key, span in self.space.items() for name in span.when):
            if name not in known or (name in self.space and self.space[name].when):
                raise ValueError(f"space.{key}.when: {name} is no setting without a condition")


class CandidateFile(Parts):
    """A file of conf/candidate/: of its fit it says only what differs from conf/fit/."""

    fit: FitChanges = FitChanges()
    """What this candidate needs otherwise than conf/fit/."""


class Candidate(Parts):
    """An extractor with its head, and how it is fitted, in full: what is compared, tuned, evaluated
    and exported.
    """

    name: str
    """Its name in params.yaml."""
    fit: Fit
    """How it is fitted, in full."""
    members: list["Candidate"] = []
    """Of an ensemble: the candidates whose probabilities are averaged; it has no head of its own."""
    defense: Defense = Defense(kind="none")
    """What it is trained to withstand."""

    @property
    def defended(self) -> str:
        """The defence in words, `none` without one; of an ensemble those of its members."""
        return "; ".join({m.defended: 0 for m in self.members}) or self.defense.title

    @property
    def title(self) -> str:
        """What people call it: the network or descriptor, how it is used, and its defence."""
        if self.members:
            return f"mean of {'; '.join(member.title for member in self.members)}"
        parts = self.extractor.get("extractors", [self.extractor])
        kinds = [part.get("name", part["_target_"].rpartition(".")[-1]) for part in parts]
        network = any("name" in part for part in parts)
        how = ", frozen" if self.frozen and network else ", fine-tuned" if network else ""
        if self.trained_stages:
            how = f", last {self.trained_stages} stages fine-tuned"
        heads = {"svm": " + SVM", "svm_rbf": " + RBF SVM", "logistic": " + logistic regression"}
        head = heads.get(self.head.kind, "")
        defense = f", {self.defense.title}" if self.defense.kind != "none" else ""
        return f"{' and '.join(kinds)}{how}{head}{defense}"
