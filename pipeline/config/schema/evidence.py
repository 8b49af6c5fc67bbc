"""Sections of what a model must show: evaluate, export, promotion."""

from typing import Any

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from pipeline.config.schema.section import Section


class Bootstrap(Section):
    n_resamples: PositiveInt
    """Resamples of the test images."""
    level: float = Field(gt=0, lt=1)
    """Confidence of the intervals, 0 to 1."""


class Evaluate(Section):
    bootstrap: Bootstrap
    """How intervals are computed."""
    worst: NonNegativeInt
    """Mistakes shown in the report."""
    min_slice: PositiveInt
    """Slices with fewer images are not listed."""


class Export(Section):
    opset: int = Field(ge=18)
    """Version of ONNX's operators."""
    parity_images: PositiveInt
    """Images on which ONNX must agree with the trained network."""
    parity_tolerance: PositiveFloat
    """Largest difference of a probability between ONNX and the trained network."""
    latency_runs: PositiveInt
    """Images that the latency is measured on."""
    registered_name: str
    """Name of the model in the registry."""
    target_risk: float = Field(gt=0, lt=1)
    """The model abstains where that keeps the fraction of wrong answers below this."""
    risk_delta: float = Field(gt=0, lt=1)
    """Chance that the promise of target_risk fails."""
    ood_quantile: float = Field(gt=0, lt=1)
    """This fraction of the validation images is not strange."""
    ood_components: PositiveInt
    """Principal components of the training features that strangeness is measured with."""
    share_pictures: bool
    """Whether reports and sheets with pictures of the data go to a shared tracking server."""


class Promotion(Section):
    min_accuracy: float = Field(ge=0, le=1)
    """Least value of the lower end of the test accuracy's interval."""
    alpha: float = Field(gt=0, lt=1)
    """A version is refused when it is worse than production on the same images at this level
    (McNemar).
    """
    max_ece: float = Field(ge=0, le=1)
    """Largest expected calibration error on the test images."""
    max_latency_ms: PositiveFloat
    """Largest median time for one image, in milliseconds."""
    max_parity_difference: PositiveFloat
    """Largest difference of a probability between ONNX and the trained network."""
    max_leaks: NonNegativeInt
    """Groups of images that may stand on both sides of the split."""
    robustness_floors: dict[str, float]
    """Least values of robustness figures by their tag, for example robustness/pgd_linf8: 0.3."""

    def model_post_init(self, _: Any) -> None:
        for tag in self.robustness_floors:
            if not tag.startswith("robustness/"):
                raise ValueError(
                    f"robustness_floors: {tag} is no tag of a robustness figure; those begin "
                    f"with robustness/"
                )
