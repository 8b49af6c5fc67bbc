"""Alerts: figures of a summary that are beyond their limits."""

from typing import Literal

from pydantic import BaseModel

from pipeline.config import schema
from pipeline.monitor import accuracy
from pipeline.monitor.figures import Summary, Version

Kind = Literal["drift", "errors", "latency", "accuracy", "records"]
WORDS = {
    "brightness": "brightness of the images",
    "sharpness": "sharpness of the images",
    "confidence": "confidence",
    "ood": "strangeness",
    "classes": "mix of predicted classes",
    "sketch": "embeddings",
}


class Alert(BaseModel):
    """One alert; an empty version means the whole server."""

    kind: Kind
    version: str
    message: str


def find(summary: Summary, cfg: schema.Monitor) -> list[Alert]:
    """The alerts of the summary's period.

    A rate counts as above its limit only where chance is an unlikely reason.
    """
    alerts = [alert for version in summary.versions for alert in _of(version, cfg)]
    if summary.lost:
        alerts.append(
            Alert(
                kind="records",
                version="",
                message=f"{summary.lost} records of predictions could not be written",
            )
        )
    return alerts


def _of(version: Version, cfg: schema.Monitor) -> list[Alert]:
    messages = {
        "drift": _drift(version),
        "errors": _errors(version, cfg.max_error_fraction),
        "latency": _latency(version, cfg.max_p95_ms),
        "accuracy": _wrong(version),
    }
    return [
        Alert.model_validate({"kind": kind, "version": version.version, "message": text})
        for kind, text in messages.items()
        if text
    ]


def _drift(version: Version) -> str | None:
    alarming = [windows for windows in version.drift if windows.alarms]
    if not alarming:
        return None
    names = {name for windows in alarming for name in windows.alarming}
    changed = ", ".join(words for name, words in WORDS.items() if name in names)
    where = ", ".join(
        f"{windows.alarms} of {windows.n} windows of {windows.size} images" for windows in alarming
    )
    still = any(min(windows.last_p.values()) <= windows.level for windows in alarming)
    return (
        f"unlike the validation images: {changed} "
        f"({where}{'' if still else '; the latest are like them again'})"
    )


def _errors(version: Version, limit: float) -> str | None:
    # Without refused requests: a flood of them must not hide a failing server.
    n_accepted = version.answered + version.failed
    if not accuracy.above(version.failed, n_accepted, limit):
        return None
    return f"{version.failed} of {n_accepted} requests failed, more than {limit:.1%}"


def _latency(version: Version, limit_ms: float) -> str | None:
    if not accuracy.above(version.slow, version.answered, 0.05):
        return None
    return f"95th percentile of latency {version.latency_ms['p95']:.0f} ms, above {limit_ms:g} ms"


def _wrong(version: Version) -> str | None:
    """An alert by the share of wrong predictions among all, which is a lower bound.

    The share among labelled predictions says little: people mostly report errors.
    """
    figures = version.accuracy
    wrong = figures.labelled - figures.right
    if figures.in_reference is None or not accuracy.above(
        wrong, version.answered, 1 - figures.in_reference_low
    ):
        return None
    return (
        f"{wrong} of {version.answered} predictions were reported wrong; "
        f"{1 - figures.in_reference:.1%} were expected"
    )
