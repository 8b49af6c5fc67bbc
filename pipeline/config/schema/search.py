"""The sections model_search and tune: how candidates are compared, and how the winner is tuned."""

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from pipeline.config.schema.evidence import Bootstrap, CrossValidation
from pipeline.config.schema.section import Metric, Section


class Rung(Section):
    """One rung of successive halving: what each candidate on it may use."""

    train_fraction: float = Field(gt=0, le=1)
    """Fraction of the training images of every class; the same images for every candidate."""
    epochs_fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of the candidate's own epochs; one epoch at least. Heads that are fitted by a solver
    have none.
    """
    one_view: bool = False
    """Whether candidates learn and answer on images as they stand, without averaging over views."""
    candidates: PositiveInt | None = None
    """How many candidates of the rung before go on to this one, at most; null: all."""


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


class Tune(Section):
    trials: PositiveInt
    """Trials in total; a killed search goes on to this number."""
    budget_minutes: PositiveFloat | None
    """Minutes after which no further batch of trials is begun. null: no end. The result depends on
    the machine's speed.
    """
    metric: Metric
    """What trials are compared by, on the validation images."""
    sampler: Literal["tpe", "gp", "random"]
    """How hyperparameters are chosen: tpe (tree-structured Parzen estimator), gp (Gaussian process)
    or random.
    """
    startup_trials: PositiveInt
    """Random trials before the sampler learns, and before anything is pruned."""
    batch: PositiveInt
    """Trials that are chosen at once, after the configuration itself: so many may run at the same
    time. More learn later from each other.
    """
    pruner: Literal["none", "median", "asha", "hyperband"]
    """Which trials are stopped early: none, those worse than the median, or all but the best third
    after 1, 3, 9, ... times prune_after_epochs (asha; hyperband starts at several of them).
    """
    prune_after_epochs: PositiveInt
    """Epochs before a trial may be stopped."""
    threads: PositiveInt | None
    """Threads of a trial that trains a whole network; null is one for each core. They decide on
    the last digits, and on how many trials run at once: cores divided by threads.
    """
    refit: Literal["dev", "train"]
    """dev: the best is trained again on train and val together; train: on train alone."""
    refit_seeds: PositiveInt
    """Seeds with which the best trial and the untuned settings are fitted, to compare them."""
    keep_untuned: Literal["never", "worse", "unproven"]
    """When the settings as they stand replace the best trial: never; where that is worse on the
    average of the seeds; or where it is not proven to be better.
    """
