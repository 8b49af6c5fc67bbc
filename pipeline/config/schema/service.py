"""Sections of what runs beside the pipeline: serving, monitor."""

import ipaddress
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
)

from pipeline.config.schema.section import Section

ImageFormat = Literal["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]


class Feedback(Section):
    keep: bool
    """Whether the pixels of what is shown are kept for people to look at."""
    max_mb: PositiveFloat
    """Megabytes on disk, at most; what someone objected to is kept longest."""
    new_classes: bool
    """Whether 'it is ...' may name a class that the model does not know."""


def _network(text: str) -> str:
    """An address or a network in its usual form."""
    return str(ipaddress.ip_network(text))


class Serving(Section):
    host: str
    """Address it listens at; any but this machine's own needs API keys."""
    port: int = Field(ge=0, le=65535)
    """Port it listens at; 0 picks a free one."""
    workers: PositiveInt
    """Processes; one uses all cores."""
    hosts: list[str]
    """Names under which it may be asked; empty: this machine's own, or any when keys are
    needed.
    """
    root_path: str = Field(pattern=r"^(/[A-Za-z0-9_.~-]+)*$")
    """Path under which a proxy offers the server, such as /fm; empty is none."""
    proxies: list[Annotated[str, AfterValidator(_network)]]
    """Addresses or networks of proxies whose X-Forwarded headers are believed."""
    keys_file: str
    """File of API keys: a name and a SHA-256 on each line."""
    rate_per_s: PositiveFloat
    """Requests per second of one key, on average."""
    burst: PositiveInt
    """Requests of one key at once."""
    poll_s: PositiveFloat
    """Seconds between two looks for a newly promoted version."""
    max_batch: PositiveInt
    """Images of one call of the engine."""
    max_waiting: PositiveInt
    """Images inside the server; one more is answered with 429."""
    max_waiting_mb: PositiveFloat
    """Megabytes of uploads inside the server."""
    max_waiting_decoding_mb: PositiveFloat
    """Megabytes that decoding all images inside the server would take."""
    max_explained: PositiveInt
    """Images that are being explained at once; one more is answered with 429."""
    max_connections: PositiveInt
    """Connections open at once; one more is answered with 503."""
    timeout_s: PositiveFloat
    """Seconds for a request, from its last byte; before that for its headers, and for its
    upload.
    """
    drain_s: NonNegativeFloat
    """Seconds after a signal to stop in which it still answers."""
    decode_threads: PositiveInt
    """Threads that decode images."""
    max_decoding_mb: PositiveFloat
    """Megabytes that images being decoded at once may take."""
    max_upload_mb: PositiveFloat
    """Megabytes of one request."""
    max_images: PositiveInt
    """Images of one request."""
    max_megapixels: PositiveFloat
    """Megapixels of one image."""
    formats: list[ImageFormat] = Field(min_length=1)
    """Formats of images that are taken."""
    feedback: Feedback
    """What is kept of images that were shown."""


class Drift(Section):
    alpha_per_day: float = Field(gt=0, lt=1)
    """Chance of any false alarm in a day, for each version, when images are independent."""
    looks_per_day: int = Field(ge=1, le=1440)
    """Windows of each size that are tested in a day, at most."""
    sizes: list[int] = Field(min_length=1)
    """Images in a window: small ones find a large change soon, large ones a small change."""

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
    """Predictions kept; the oldest go. Some 200 bytes each."""
    hours: PositiveFloat
    """How far back the page and the alerts look."""
    every_s: PositiveFloat
    """Seconds between two looks for new alerts."""
    drift: Drift
    """How changes of the images are found."""
    max_error_fraction: float = Field(gt=0, lt=1)
    """Fraction of answers that may fail in the server."""
    max_p95_ms: PositiveFloat
    """Milliseconds that at most one request in twenty may exceed."""
