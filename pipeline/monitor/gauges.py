"""Prometheus gauges of alerts, drift and accuracy; a scrape reads the watcher's last look."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from pipeline.monitor.alerts import Alert, Kind
from pipeline.monitor.figures import Summary, Version
from pipeline.monitor.watch import Watcher

# the kind "records" belongs to the whole server
OF_VERSIONS = tuple(kind for kind in get_args(Kind) if kind != "records")


def collect(registry: CollectorRegistry, watcher: Watcher) -> None:
    """Add the gauges to a registry; a scrape does not read the store."""
    registry.register(_Gauges(watcher))


class _Gauges(Collector):
    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def collect(self) -> Iterator[Metric]:
        if (last := self._watcher.last) is not None:
            yield _alerts(last.summary, last.alerts)
            yield _drift(last.summary)
            yield from _accuracies(last.summary)

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering does not scrape."""
        yield from ()


def _alerts(summary: Summary, alerts: list[Alert]) -> Metric:
    family = GaugeMetricFamily(
        "fieldmark_alert", "1 while there is an alert of the kind", labels=["kind", "version"]
    )
    raised = {(alert.kind, alert.version) for alert in alerts}
    possible = {(kind, version.version) for version in summary.versions for kind in OF_VERSIONS}
    for kind, version in sorted(possible | raised | {("records", "")}):
        family.add_metric([kind, version], float((kind, version) in raised))
    return family


def _drift(summary: Summary) -> Metric:
    labels = ["version", "size", "test"]
    family = GaugeMetricFamily(
        "fieldmark_drift_p_value", "adjusted p-value in the last window of each size", labels=labels
    )
    for version in summary.versions:
        for windows in version.drift:
            for test, p in windows.last_p.items():
                family.add_metric([version.version, str(windows.size), test], p)
    return family


def _accuracies(summary: Summary) -> Iterator[Metric]:
    for name, what, value in (
        ("expected", "expected accuracy, from confidence (ATC)", _expected),
        ("measured", "share of correct predictions among those with a label", _measured),
    ):
        family = GaugeMetricFamily(f"fieldmark_accuracy_{name}", what, labels=["version"])
        for version, figure in ((v.version, value(v)) for v in summary.versions):
            if figure is not None:
                family.add_metric([version], figure)
        yield family


def _expected(version: Version) -> float | None:
    return version.accuracy.by_threshold


def _measured(version: Version) -> float | None:
    figures = version.accuracy
    return figures.right / figures.labelled if figures.labelled else None
