"""Sections of what a model must show: evaluate, export, promotion."""

from typing import Annotated

from pydantic import (
    Field,
    NonNegativeFloat,
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


class CrossValidation(Section):
    below: NonNegativeInt
    """It is done where there are fewer images to judge by than this: validation images in
    model_search, test images in evaluate; 0: never.
    """
    folds: int = Field(ge=2)
    """Parts that the images are dealt to, each of which is judged once; groups stay together."""
    repeats: PositiveInt
    """How often they are dealt anew."""


class Attacks(Section):
    images: NonNegativeInt
    """Test images that are attacked, drawn at random, each class by its share; 0: no attack."""
    radii: list[PositiveFloat] = Field(min_length=1)
    """Largest change of a channel of a pixel, on the scale of 0 to 255 (L-infinity)."""
    steps: PositiveInt
    """Steps of PGD, for each loss."""
    restarts: PositiveInt
    """Random starts of PGD, for each loss; from the second on for what still stands."""
    auto_steps: NonNegativeInt
    """Steps of Auto-PGD; 0 leaves it out."""
    all_views_images: NonNegativeInt
    """Of a network that averages views, the images that are attacked through all of them at once."""
    all_views_steps: PositiveInt
    """Steps of that attack."""
    square_images: NonNegativeInt
    """Images of the black-box attack (Square), which sees answers only."""
    square_queries: PositiveInt
    """Questions it may ask for each image."""
    radius: PositiveFloat
    """Radius of the black-box attack and of the attack through all views, 0 to 255."""
    auto_attack_images: NonNegativeInt
    """Images of the standard AutoAttack of a library, at `radius`, where there are four classes or
    more; 0: it is not run.
    """
    patch_images: NonNegativeInt
    """Images that a patch is put on, a square of any colours; 0: none."""
    patch_area: float = Field(gt=0, lt=1)
    """Share of the pixels that the patch covers."""
    patch_steps: PositiveInt
    """Steps that its colours are searched in."""
    patch_places: PositiveInt
    """Random places that are tried for each image; the worst counts."""


class Corruptions(Section):
    images: NonNegativeInt
    """Test images that are corrupted, drawn like those of attacks; 0: none."""
    severities: list[Annotated[int, Field(ge=1, le=5)]] = Field(min_length=1)
    """Severities of every kind of corruption, from 1 to 5."""
    all_views: bool
    """Whether a network that averages views goes through all of them, or through one."""
    floor: float = Field(ge=0, le=1)
    """A corruption breaks the model at the first severity where its accuracy is below this."""


class Smoothing(Section):
    images: NonNegativeInt
    """Test images that are certified by randomized smoothing; 0: none."""
    sigma: PositiveFloat
    """Standard deviation of the noise, on the scale of 0 to 255, independent in each channel."""
    n_choose: PositiveInt
    """Noisy copies that choose the class of an image."""
    n_certify: PositiveInt
    """Noisy copies that bound its radius; they set the largest radius that can be certified."""
    alpha: float = Field(gt=0, lt=1)
    """Chance that a certificate is wrong."""
    radii: list[PositiveFloat] = Field(min_length=1)
    """L2 radii over all pixels and channels, on the scale of 0 to 255."""


class Robustness(Section):
    attacks: Attacks
    """Changes that somebody makes on purpose."""
    corruptions: Corruptions
    """Changes that weather, cameras and files make."""
    smoothing: Smoothing
    """Certificates under random noise."""


class Conformal(Section):
    level: float = Field(gt=0, lt=1)
    """Share of images whose set of classes contains their label, 0 to 1."""
    by_class: bool
    """Whether that holds for the images of each class, or only over all of them."""


class Regions(Section):
    mistakes: NonNegativeInt
    """Of the mistakes that the report shows, so many have a map."""
    right: NonNegativeInt
    """Right answers with a map, drawn at random, each class by its share."""
    cells: int = Field(ge=3)
    """Cells per side of a map, which takes (cells - 1)² predictions."""
    all_views: bool
    """Whether a network that averages views goes through all of them, or through one."""
    shuffles: PositiveInt
    """Networks with shuffled weights, whose maps of six images each must differ."""


class Evaluate(Section):
    bootstrap: Bootstrap
    """How intervals are computed."""
    conformal: Conformal
    """Sets of classes that contain the right one with a stated probability."""
    cross_validation: CrossValidation | None
    """Where there are few test images, the settings of the model are also judged by all images; null:
    never. Networks that are not frozen are left out.
    """
    worst: NonNegativeInt
    """Mistakes shown in the report."""
    min_slice: PositiveInt
    """Classes and slices with fewer test images are too small to judge."""
    places: str | None
    """Column of the metadata that names camera, site, patient or style, or `group`: each of its values
    is left out of the training in turn, and judged as a place never seen. null: not measured.
    """
    smooth_seconds: NonNegativeFloat
    """Of frames of videos, also the accuracy after smoothing over so many seconds; 0: not measured."""
    altered_images: PositiveInt
    """Test images, drawn at random, that are also judged shifted, turned and in parts."""
    regions: Regions | None
    """Where in a photo answers rest, by covering it piece by piece; null leaves it out."""
    robustness: Robustness | None
    """Accuracy under attacks, corruptions and noise; null leaves it out."""


class Export(Section):
    opset: int = Field(ge=18)
    """Version of ONNX's operators."""
    parity_images: PositiveInt
    """Images on which ONNX must agree with the trained network."""
    parity_tolerance: PositiveFloat
    """Largest difference of a probability between ONNX and the trained network."""
    latency_runs: PositiveInt
    """Images that the latency is measured on."""
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
    """Least test accuracy."""
    min_accuracy_low: float = Field(ge=0, le=1)
    """Least value of the lower end of the test accuracy's interval."""
    alpha: float = Field(gt=0, lt=1)
    """A version is refused when it is worse than production on the same images at this level
    (McNemar).
    """
    max_ece: float = Field(ge=0, le=1)
    """Largest expected calibration error on the test images; a larger one passes where chance
    explains it with so few images.
    """
    max_latency_ms: PositiveFloat
    """Largest median time for one image, in milliseconds; where export measured more, it is measured
    again.
    """
    max_slowdown: float = Field(ge=1)
    """On a busy machine, how many times as long as production it may take, measured in turns."""
    max_parity_difference: PositiveFloat
    """Largest difference of a probability between ONNX and the trained network."""
    max_leaks: NonNegativeInt
    """Groups of images that may stand on both sides of the split."""
    floors: dict[str, float | None]
    """Least values of other figures by name, for example robustness/adversarial_linf1: 0.3; null is none. A
    figure that was not measured fails.
    """
    ceilings: dict[str, float | None]
    """Largest values of other figures by name, for example stability/flips_shift_2px: 0.05; null is
    none. A figure that was not measured fails.
    """
