"""The section defense: what a network is trained to withstand."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config.schema.section import Section

ATTACKED = ("radius", "ramp", "steps")
SETTINGS = {
    "none": (),
    "fast": (*ATTACKED, "step", "fall"),
    "adversarial": ATTACKED,
    "trades": (*ATTACKED, "beta"),
    "distillation": ("temperature",),
    "noise": ("sigma",),
}
TITLES = {
    "none": "none",
    "fast": "fast adversarial training, radius {radius:g} of 255",
    "adversarial": "adversarial training, radius {radius:g} of 255",
    "trades": "TRADES, radius {radius:g} of 255",
    "distillation": "defensive distillation, temperature {temperature:g}",
    "noise": "training with noise, sigma {sigma:g} of 255",
}


class Defense(Section):
    kind: Literal["none", "fast", "adversarial", "trades", "distillation", "noise"]
    """How training defends the network: not at all, by images attacked in one step (fast) or in
    several (adversarial), by answers that stay the same under attack (trades), by the soft answers
    of a first network (distillation), or by noise. Each kind has settings of its own.
    """
    radius: PositiveFloat | None = None
    """Largest change of a channel of a pixel in training, on the scale of 0 to 255 (L-infinity)."""
    ramp: float | None = Field(default=None, ge=0, lt=1)
    """Share of the training over which the radius grows from 0."""
    steps: PositiveInt | None = None
    """Steps of PGD for each batch; of fast, where it watches, and after a collapse."""
    step: PositiveFloat | None = None
    """Length of the one step of fast, in radii."""
    fall: float | None = Field(default=None, gt=0, le=1)
    """Of fast: it has collapsed where the accuracy under PGD falls by more than this below the best
    of earlier epochs, and stays by more than this below the accuracy under its own attack.
    """
    beta: PositiveFloat | None = None
    """How much the difference of the answers counts beside the loss of the clean images."""
    temperature: float | None = Field(default=None, gt=1)
    """What the logits of both networks are divided by while they learn."""
    sigma: PositiveFloat | None = None
    """Standard deviation of the noise, on the scale of 0 to 255, independent in each channel."""

    def model_post_init(self, _: Any) -> None:
        own = SETTINGS[self.kind]
        given = {name for name, value in self.model_dump().items() if value is not None} - {"kind"}
        for name in own:
            if name not in given:
                raise ValueError(f"kind {self.kind} needs {name}")
        for name in sorted(given - set(own)):
            raise ValueError(
                f"kind {self.kind} has no {name}; it has {', '.join(own) or 'no settings'}"
            )

    @property
    def title(self) -> str:
        """What people call it, with its radius or strength; `none` where there is none."""
        return TITLES[self.kind].format(**self.model_dump())
