"""Sections of the stages that prepare data: ingest, label_check, preprocess, augment."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from pipeline.config.schema.section import Section


class Ingest(Section):
    source: dict[str, Any]
    """The function that yields the images, and its arguments."""
    max_megapixels: PositiveFloat
    """An image with more megapixels is left out before it is decoded."""
    max_file_megabytes: PositiveFloat = 500.0  # a file of conf/ingest/ may be older than this key
    """A file of more million bytes is left out, unread."""


class Errors(Section):
    folds: int = Field(ge=2)
    """Parts of the data; each is judged by a model of the others."""
    C: PositiveFloat
    """Inverse strength of regularisation of the logistic regression that judges labels."""
    max_fraction: float = Field(gt=0, le=1)
    """At most this fraction of all images is named as suspects."""


class Duplicates(Section):
    max_hamming: int = Field(ge=0, le=64)
    """Two images whose perceptual hashes differ in at most so many of 64 bits may be near-
    duplicates.
    """
    min_cosine: float = Field(ge=-1, le=1)
    """Two images whose features have at least this cosine are near-duplicates."""


class Quality(Section):
    dark: float = Field(ge=0, le=1)
    """Mean brightness, 0 to 1, below which an image is dark."""
    bright: float = Field(ge=0, le=1)
    """Brightness, 0 to 1, above which an image is bright."""
    blur: NonNegativeFloat
    """Sharpness below which an image is blurred."""
    low_information: NonNegativeFloat
    """Entropy in bits below which an image holds little information."""
    odd_size: float = Field(gt=1)
    """An image is odd when its area differs from the median by more than this factor."""
    odd_aspect: float = Field(gt=1)
    """An image is odd when its ratio of sides differs from the median by more than this
    factor.
    """


class Fractions(Section):
    train: float = Field(gt=0, lt=1)
    """Fraction of the images that the model learns from."""
    val: float = Field(gt=0, lt=1)
    """Fraction of the images by which choices are made."""
    test: float = Field(gt=0, lt=1)
    """Fraction of the images that only evaluate looks at, once."""

    def model_post_init(self, _: Any) -> None:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError("train, val and test must add up to 1")


class Audit(Section):
    fractions: list[Annotated[float, Field(gt=0, lt=1)]]
    """Fractions of labels that are flipped in a copy, to see how well they are found; [] is
    off.
    """
    max_images: PositiveInt
    """Of more images a sample of so many is audited."""
    verified: str | None
    """A metadata column that holds labels which people checked; null is none."""


class Outliers(Section):
    deviations: PositiveFloat
    """Robust standard deviations beyond the usual distance to the nearest images."""


class Classes(Section):
    min_images: NonNegativeInt
    """A class with fewer images is named in the findings."""
    max_imbalance: float = Field(ge=1)
    """A class is named when the largest one has this many times as many images."""


class Correlates(Section):
    min_auc: float = Field(ge=0.5, le=1)
    """A class that one property alone tells apart this well (AUC) is named."""
    ignore: list[str]
    """Metadata columns that are the label by another name."""


class LabelCheck(Section):
    size_px: int = Field(ge=8)
    """Side in pixels to which images are squared for the embedding."""
    errors: Errors
    """How doubtful labels are found."""
    audit: Audit
    """How the search for doubtful labels is tested on planted errors."""
    duplicates: Duplicates
    """When two images count as nearly the same."""
    neighbours: PositiveInt
    """Similar images shown beside each image on the review page."""
    quality: Quality
    """When an image counts as poor."""
    outliers: Outliers
    """When an image counts as unlike all others."""
    classes: Classes
    """When a class counts as small."""
    correlates: Correlates
    """When a property other than the content gives the class away."""
    max_leakage: float = Field(ge=0, le=1)
    """Of images with a given split, the fraction in groups that cross splits above which
    label-check stops; 1 never stops.
    """
    drop_suspects: bool
    """Whether suspects are left out of train and val; never out of test."""
    fractions: Fractions
    """How images are dealt to train, val and test."""


class Preprocess(Section):
    size_px: int = Field(ge=8)
    """Side in pixels of the square images."""
    fit: Literal["stretch", "crop", "pad"]
    """stretch: to the square; crop: the central square; pad: with the colour of the edge."""
    denoise: NonNegativeFloat
    """Strength of non-local means; 0 is off."""
    clahe: NonNegativeFloat
    """Clip limit of local contrast equalisation; 0 is off."""
    normalise_brightness: bool
    """Whether every image gets the same mean brightness."""


class Augment(Section):
    symmetry: Literal["none", "flip", "d4"]
    """Views that never change what an image shows: none, flip (left and right), d4 (all eight
    of the square).
    """
    balance_to: float = Field(ge=0, le=1)
    """Classes below this fraction of the largest are filled up with stored views."""
    extra_per_image: NonNegativeInt
    """Stored views of every training image beside that."""
    policy: list[dict[str, Any]]
    """The Albumentations transforms, in order; each a node with _target_ and p."""
