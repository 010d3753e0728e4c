"""Two runs on the same dataset, compared example by example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minillm.evaluation.errors import EvaluationError
from minillm.evaluation.running import RunResult
from minillm.evaluation.significance import Difference, compare_paired, holm


@dataclass(frozen=True)
class Comparison:
    """How far run b is ahead of run a.

    Attributes:
        a, b: the runs' models.
        differences: by metric.
        corrected: the p-values, corrected for the number of metrics (Holm).
    """

    a: str
    b: str
    differences: Mapping[str, Difference]
    corrected: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        metrics = {
            name: difference.as_dict() | {"corrected_p_value": self.corrected[name]}
            for name, difference in self.differences.items()
        }
        return {"a": self.a, "b": self.b, "metrics": metrics}


def compare_runs(a: RunResult, b: RunResult, *, seed: int = 0) -> Comparison:
    """Compares two runs in all metrics that both have.

    Args:
        a, b: the runs, of the same examples.
        seed: of what the tests draw.

    Raises:
        EvaluationError: if they're of other examples, or share no metric.
    """
    if a.fingerprint != b.fingerprint or [each.id for each in a.examples] != [each.id for each in b.examples]:
        raise EvaluationError(
            f"The runs are of different examples ({len(a.examples)} of {a.dataset}, {len(b.examples)} of {b.dataset}), "
            "so they can't be paired. Run both on the same file, with the same --limit."
        )
    names = [name for name in a.estimates if name in b.estimates]
    if not names:
        raise EvaluationError(
            f"The runs share no metric: one has {', '.join(a.estimates)}, the other {', '.join(b.estimates)}."
        )
    differences = {
        name: compare_paired(
            [each.scores[name] for each in a.examples], [each.scores[name] for each in b.examples], seed=seed
        )
        for name in names
    }
    corrected = holm([difference.p_value for difference in differences.values()])
    return Comparison(a.model, b.model, differences, dict(zip(names, corrected, strict=True)))
