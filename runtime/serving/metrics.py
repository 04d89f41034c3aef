"""Figures for Prometheus, in a registry of their own: several services may live in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from pixelsnail_infer.runtime.engine.stats import Stats
from pixelsnail_infer.runtime.engine.timing import Timing
from pixelsnail_infer.runtime.serving.served import Served

__all__ = ["MEDIA_TYPE", "Metrics"]

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LABELS = ("model", "stage")
_OUTCOMES = ("done", "failed", "expired", "cancelled", "refused")


class Metrics:
    """Counts what handlers tell it; what engines count themselves is read when somebody asks."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Engines(models))

        def times(name: str, says: str) -> Histogram:
            return Histogram(f"pixelsnail_{name}_seconds", says, ["model"], buckets=_BUCKETS, registry=self._registry)

        self._waits = times("wait", "From a request to the start of its first image")
        self._first_rows = times("first_row", "From a request to its first row")
        self._wholes = times("request", "From a request to its end")
        self._answers = Counter("pixelsnail_http_requests", "Answers by route, method and status",
                                ["route", "method", "status"], registry=self._registry)  # fmt: skip

    def answered(self, route: str, method: str, status: int) -> None:
        """An HTTP request was answered; `route` is a path of the service's own, never one that a client made up."""
        self._answers.labels(route, method, str(status)).inc()

    def drawn(self, model: str, timing: Timing) -> None:
        """A request to an engine has ended."""
        for histogram, moment in (
            (self._waits, timing.begun), (self._first_rows, timing.first_row), (self._wholes, timing.ended),
        ):  # fmt: skip
            if moment is not None:
                histogram.labels(model).observe(moment - timing.submitted)

    def text(self) -> bytes:
        """The page of `GET /metrics`."""
        return generate_latest(self._registry)


class _Engines(Collector):
    """What the engines count."""

    def __init__(self, models: Mapping[str, Served]) -> None:
        self._models = models

    def describe(self) -> list[Metric]:
        """Nothing is read when it is registered: there may be no models yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every figure of every model."""
        found = [((name, str(stage)), stats) for name, served in self._models.items()
                 for stage, stats in enumerate(served.stats())]  # fmt: skip
        for name, says, attribute in _GAUGES:
            yield _family(GaugeMetricFamily(f"pixelsnail_{name}", says, labels=_LABELS), found, attribute)
        for name, says, attribute in _COUNTERS:
            yield _family(CounterMetricFamily(f"pixelsnail_{name}", says, labels=_LABELS), found, attribute)
        requests = CounterMetricFamily("pixelsnail_requests", "Requests by outcome", labels=[*_LABELS, "outcome"])
        rows = SummaryMetricFamily("pixelsnail_row_seconds", "Drawing one row of a batch", labels=_LABELS)
        for place, stats in found:
            for outcome in _OUTCOMES:
                requests.add_metric([*place, outcome], getattr(stats, outcome))
            rows.add_metric(place, stats.batches, stats.batch_seconds)
        yield requests
        yield rows


Found = tuple[tuple[str, str], Stats]  # model and stage

_GAUGES = (
    ("queue_depth", "Requests with images that wait for a slot", "waiting"),
    ("queue_images", "Images that wait for a slot", "waiting_images"),
    ("live_images", "Images in slots: those that are drawn now", "live"),
    ("slots", "Images that can be drawn at once", "slots"),
    ("held_bytes", "Bytes that unfinished requests hold", "held_bytes"),
    ("memory_bytes", "Bytes that they may hold", "memory"),
)
_COUNTERS = (
    ("images", "Finished images", "images"),
    ("rows", "Rows of images drawn; batch occupancy is this over slot_rows", "rows"),
    ("slot_rows", "Slots of all batches drawn, row by row", "slot_rows"),
    ("backend_failures", "Failures of the backend, after which images are drawn again", "failures"),
)


def _family(
    family: GaugeMetricFamily | CounterMetricFamily, found: Sequence[Found], attribute: str
) -> GaugeMetricFamily | CounterMetricFamily:
    for place, stats in found:
        family.add_metric(place, getattr(stats, attribute))
    return family
