"""The section model_search: how candidates are compared."""

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.config.schema.evidence import Bootstrap
from pipeline.config.schema.section import Metric, Section


class Rung(Section):
    """One rung of successive halving: what each candidate on it may use."""

    train_fraction: float = Field(gt=0, le=1)
    """Fraction of the training images of every class; the same images for every candidate."""
    epochs_fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the candidate's own epochs; one epoch at least. Heads that are solved for at once
    have none.
    """
    one_view: bool = False
    """Whether candidates learn and answer on images as they stand, without averaging over views."""
    candidates: PositiveInt | None = None
    """How many candidates of the rung before go on to this one, at most; null: all."""


class CrossValidation(Section):
    below: NonNegativeInt
    """Where validation images are fewer, candidates are judged by cross-validation on training and
    validation images together; 0: never.
    """
    folds: int = Field(ge=2)
    """Parts that the images are dealt to, each of which is judged once; groups stay together."""
    repeats: PositiveInt
    """How often they are dealt anew."""


class Sufficiency(Section):
    draws: NonNegativeInt
    """How often each part of the photos is drawn; 0: no learning curve."""
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = Field(min_length=3)
    """Parts of the training photos that the curve is measured on, ascending."""
    more: list[PositiveFloat] = Field(min_length=1)
    """How many more photos the curve is continued to; 0.25: a quarter more."""
    n_resamples: PositiveInt
    """Resamples of images and draws behind the intervals."""


class ModelSearch(Section):
    rungs: list[Rung] = Field(min_length=1)
    """Rungs of successive halving, the cheapest first. All candidates start on the first one; a
    single rung tries each of them once.
    """
    min_train_images: PositiveInt
    """No rung takes fewer training images, where there are as many."""
    cross_validation: CrossValidation
    """When and how candidates are judged by cross-validation instead of the validation images."""
    metric: Metric
    """What candidates are compared by, on the validation images."""
    bootstrap: Bootstrap
    """Intervals of each figure, and of the difference of two candidates on the same images."""
    indistinct: float = Field(gt=0, le=1)
    """A clearly faster candidate replaces the best where their paired difference has a larger
    p-value than this; 1: the best always wins.
    """
    clearly_faster: float = Field(gt=0, le=1)
    """A candidate is clearly faster where its latency is at most this multiple of the best's."""
    ensemble: NonNegativeInt = 0
    """The best so many candidates of the last rung, within the limits, join as one more: the mean of
    their probabilities. 0: they do not.
    """
    latency_budget_ms: PositiveFloat
    """Median milliseconds for one image on this machine's CPU; a slower candidate is not
    chosen.
    """
    latency_runs: PositiveInt
    """Images that the latency is measured on."""
    batch_runs: NonNegativeInt
    """Batches of 32 images that the latency of a batch is measured on, on the last rung; 0: it is
    not measured.
    """
    size_budget_mb: PositiveFloat | None
    """Megabytes of the network's weights; a larger candidate is not chosen. null: any size."""
    budget_minutes: PositiveFloat | None
    """Minutes after which no further candidate is tried. null: no end. The result depends on the
    machine's speed.
    """

    sufficiency: Sufficiency
    """Learning curves of the winner and the fastest other candidate, and what more photos bring."""

    def model_post_init(self, _: Any) -> None:
        if self.rungs[0].candidates is not None:
            raise ValueError(
                "rungs: all candidates start on the first one: leave out its candidates"
            )
