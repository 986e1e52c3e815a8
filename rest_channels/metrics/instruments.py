"""
Counters, gauges and histograms, cheap enough to be always on.

Plain numbers, changed where things happen, in any thread and without a lock. CPython's interpreter
lock makes each addition whole; on a free-threaded build, concurrent threads may lose a few. A
reader in another thread may see a histogram between its two additions: the sum is then one
observation behind the counts. This module imports neither Django nor asyncio.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, Protocol, TypeVar

#: The label of every value that is not known in advance, such as an action that a client made up.
OTHER: Final = "other"

LabelValue = str | int
Kind = Literal["counter", "gauge", "histogram"]


class Names:
    """
    The values that a label may have: names of the code, never a client's.

    So the number of series is bounded, and so is the memory that they take.
    """

    def __init__(self, names: Iterable[LabelValue] = ()) -> None:
        self._names = set(names)

    def declare(self, names: Iterable[LabelValue]) -> None:
        """Add names that the project's code declares, such as the actions of a viewset."""
        self._names.update(names)

    def bounded(self, value: LabelValue) -> LabelValue:
        """Return `value` if it is known, else "other"."""
        return value if value in self._names else OTHER


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | float = 0

    def add(self, amount: float = 1) -> None:
        """Add `amount`, which is not negative."""
        self.value += amount


class Histogram:
    """
    Observations, counted by size.

    `counts[i]` is the number of those up to `bounds[i]` and above the bound before; the last count
    is of those above all bounds. `total` is their sum.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: int | float = 0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Instrument = TypeVar("Instrument", Counter, Histogram)


class Metric(Generic[Instrument]):
    """
    One instrument for each combination of label values; `of()` is the only one without labels.

    `labels` maps names of labels to the values that are known.
    """

    def __init__(
        self,
        name: str,
        explanation: str,
        kind: Kind,
        make: Callable[[], Instrument],
        labels: Mapping[str, Names],
    ) -> None:
        self.name = name
        self.explanation = explanation
        self.kind = kind
        self.labels = labels
        self._make: Callable[[], Instrument] = make
        self._series: dict[tuple[LabelValue, ...], Instrument] = {}
        if not labels:
            self.of()

    def of(self, *values: LabelValue) -> Instrument:
        """Return the instrument for `values` of the labels, in their order."""
        found = self._series.get(values)
        return self._bounded(values) if found is None else found

    def series(self) -> list[tuple[tuple[LabelValue, ...], Instrument]]:
        """Return the instruments by their values, as far as there are any yet; in any thread."""
        return list(self._series.items())

    def _bounded(self, values: tuple[LabelValue, ...]) -> Instrument:
        pairs = zip(self.labels.values(), values, strict=True)
        known = tuple(names.bounded(value) for names, value in pairs)
        # Atomic: two threads get the same instrument.
        return self._series.setdefault(known, self._make())


@dataclass(frozen=True, slots=True)
class Sample:
    """The state of one instrument: a `value`, or the counts of a histogram."""

    values: tuple[LabelValue, ...]
    value: float = 0
    counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """
    The state of one metric at one moment.

    `value` of a histogram's sample is the sum of its observations.
    """

    name: str
    explanation: str
    kind: Kind
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    bounds: tuple[float, ...] = ()


class ReadGauges(Protocol):
    """A function that reads gauges, all at once."""

    def __call__(self) -> Mapping[str, int | float]:
        """Return the current amounts by name; in any thread."""


class Registry:
    """The metrics of one process, by name."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric[Counter] | Metric[Histogram]] = {}
        self._gauges: list[tuple[Mapping[str, str], ReadGauges]] = []

    def counter(self, name: str, explanation: str) -> Counter:
        """Return a new counter without labels."""
        return self.counters(name, explanation, {}).of()

    def counters(self, name: str, explanation: str, labels: Mapping[str, Names]) -> Metric[Counter]:
        """Return a new metric of counters."""
        return self._add(Metric(name, explanation, "counter", Counter, labels))

    def histogram(self, name: str, explanation: str, bounds: Sequence[float]) -> Histogram:
        """Return a new histogram without labels."""
        return self.histograms(name, explanation, bounds, {}).of()

    def histograms(
        self, name: str, explanation: str, bounds: Sequence[float], labels: Mapping[str, Names]
    ) -> Metric[Histogram]:
        """Return a new metric of histograms. `bounds` ascend."""
        fixed = tuple(bounds)
        return self._add(Metric(name, explanation, "histogram", lambda: Histogram(fixed), labels))

    def gauges(self, explanations: Mapping[str, str], read: ReadGauges) -> None:
        """Add gauges, with explanations by name, whose amounts `read` finds when asked."""
        self._gauges.append((explanations, read))

    def collect(self) -> Iterator[Family]:
        """Yield the state of all metrics; in any thread."""
        for metric in self._metrics.values():
            yield _family(metric)
        for explanations, read in self._gauges:
            amounts = read()
            for name, explanation in explanations.items():
                yield Family(name, explanation, "gauge", (), (Sample((), amounts[name]),))

    def plain(self) -> dict[str, int | float]:
        """Return the values of counters without labels, and of gauges; in any thread."""
        return {
            family.name: sample.value
            for family in self.collect()
            if family.kind != "histogram" and not family.labels
            for sample in family.samples
        }

    def _add(self, metric: Metric[Instrument]) -> Metric[Instrument]:
        if metric.name in self._metrics:
            raise ValueError(f"There is a metric {metric.name!r} already: choose another name.")
        self._metrics[metric.name] = metric
        return metric


def _family(metric: Metric[Counter] | Metric[Histogram]) -> Family:
    samples: list[Sample] = []
    bounds: tuple[float, ...] = ()
    for values, instrument in metric.series():
        if isinstance(instrument, Histogram):
            bounds = tuple(instrument.bounds)
            samples.append(Sample(values, instrument.total, tuple(instrument.counts)))
        else:
            samples.append(Sample(values, instrument.value))
    labels = tuple(metric.labels)
    return Family(metric.name, metric.explanation, metric.kind, labels, tuple(samples), bounds)
