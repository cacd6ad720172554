"""One measured figure, beside its target, as a line of the table."""

import statistics
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Hold one line of the table; without a target it only informs."""

    name: str
    value: float | None
    unit: str = ""
    at_most: float | None = None
    note: str = ""
    at_least: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it was measured, and its target is missed."""
        if self.value is None:
            return False
        too_high = self.at_most is not None and self.value > self.at_most
        return too_high or (self.at_least is not None and self.value < self.at_least)

    def cells(self) -> tuple[str, ...]:
        """Return the line, cell by cell."""
        if self.value is None:
            return self.name, "not measured", "", self.note
        limits = {"≤": self.at_most, "≥": self.at_least}
        target = " ".join(f"{sign} {_short(limit)}{self.unit}" for sign, limit in limits.items() if limit is not None)
        verdict = "MISSED" if self.missed else "ok" if target else ""
        return self.name, f"{_short(self.value)}{self.unit}", target, " ".join(filter(None, [verdict, self.note]))


def judge(figures: list[Figure]) -> str | int:
    """Return 0, or the sentence that names the targets that are missed."""
    missed = [each.cells() for each in figures if each.missed]
    if not missed:
        return 0
    lines = [f"  {name.strip()}: {measured}, target {target}" for name, measured, target, _ in missed]
    return "\n".join(["missed:", *lines])


def in_ms(seconds: float) -> str:
    """Write seconds as a note."""
    return f"({seconds * 1000:.1f} ms)"


def counted(answers: Counter) -> str:
    """Write how often each status was answered."""
    return ", ".join(f"{status}: {count}" for status, count in sorted(answers.items()))


def percentile(times: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(times, n=100, method="inclusive")[98]


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
