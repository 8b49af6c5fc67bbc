"""What a registered version carries as tags: its code, its data and its figures."""

import json
from collections.abc import Mapping
from pathlib import Path

from omegaconf import OmegaConf

FIGURES = (
    "test/accuracy",
    "test/accuracy_low",
    "test/accuracy_high",
    "test/f1_macro",
    "test/ece",
    "test/ece_by_chance",
    "test/log_loss",
    "test/set_coverage",
)
METRICS = "metrics"  # the tag with every figure, as JSON: what gates of one's own look up


def tags(
    code: Mapping[str, str],
    outputs: Mapping[str, str],
    seed: int,
    tested: Mapping[str, float],
    checked: Mapping[str, float],
    leaks: float,
    tune: Path,
) -> dict[str, str]:
    """code: see runs/provenance; outputs: DVC's hash of each stage's folder; tested: the figures of
    evaluate; checked: parity and latency; leaks: groups on both sides of the split.
    """
    return {
        **{key: value for key, value in code.items() if key.startswith("git.")},
        "seed": str(seed),
        **{
            f"data.{Path(path).name}": md5 for path, md5 in outputs.items() if path != "data/export"
        },
        **{key: f"{tested[key]:.4f}" for key in FIGURES},
        # Of flips, context and robustness, so that promotion can have floors for them.
        **{key: f"{value:.4f}" for key, value in tested.items() if not key.startswith("test/")},
        "test/n": f"{tested['test/n']:.0f}",
        METRICS: json.dumps({**tested, **checked, "leaks": leaks}),
        **{key: f"{value:.3g}" for key, value in checked.items() if key.startswith("parity/")},
        "leaks": f"{leaks:.0f}",
        "latency/p50_ms": f"{checked['latency/p50_ms']:.2f}",
        "winner": json.dumps(OmegaConf.to_container(OmegaConf.load(tune / "best.yaml"))),
    }
