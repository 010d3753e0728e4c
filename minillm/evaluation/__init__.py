"""Evaluation: datasets, metrics, judges, probes of safety, and runs that are compared with a test.

It knows the API and nothing of the engine behind it, so any OpenAI-compatible server can be tried.

>>> from minillm.evaluation import Connection, evaluate, read_examples
>>> examples = read_examples("questions.jsonl")
>>> result = await evaluate(Connection.from_environment(), examples, ["f1", "groundedness"])
>>> print(result.estimates["f1"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minillm.evaluation.asking import Prompt, ask_all, ask_all_and_wait, wait_for
    from minillm.evaluation.comparing import Comparison, compare_runs
    from minillm.evaluation.connection import Connection
    from minillm.evaluation.dataset import DATA, Example, Source, read_examples, write_examples
    from minillm.evaluation.defending import ALONE, LAYERS, Defence
    from minillm.evaluation.errors import DatasetError, EvaluationError, ServerError
    from minillm.evaluation.journal import Journal, Reply
    from minillm.evaluation.judges import JudgeReport, try_judge
    from minillm.evaluation.judging import JudgeCase, Verdict, read_judge_cases, read_verdict, verdict_format
    from minillm.evaluation.metrics import (
        citation_precision,
        citation_recall,
        exact_match,
        groundedness,
        ndcg_at_k,
        precision_at_k,
        recall_at_k,
        reciprocal_rank,
        token_f1,
    )
    from minillm.evaluation.probing import Probe, SafetyReport, probe_safety, read_probes
    from minillm.evaluation.running import RunResult, evaluate, read_result
    from minillm.evaluation.significance import Difference, compare_paired, holm, mcnemar, permutation_test
    from minillm.evaluation.statistics import (
        Estimate,
        bootstrap,
        cohens_kappa,
        estimate_mean,
        estimate_proportion,
        rank_correlation,
        wilson_interval,
    )

_HOME = {
    "asking": ("Prompt", "ask_all", "ask_all_and_wait", "wait_for"),
    "comparing": ("Comparison", "compare_runs"),
    "connection": ("Connection",),
    "dataset": ("DATA", "Example", "Source", "read_examples", "write_examples"),
    "defending": ("ALONE", "LAYERS", "Defence"),
    "errors": ("DatasetError", "EvaluationError", "ServerError"),
    "journal": ("Journal", "Reply"),
    "judges": ("JudgeReport", "try_judge"),
    "judging": ("JudgeCase", "Verdict", "read_judge_cases", "read_verdict", "verdict_format"),
    "metrics": (
        "citation_precision",
        "citation_recall",
        "exact_match",
        "groundedness",
        "ndcg_at_k",
        "precision_at_k",
        "recall_at_k",
        "reciprocal_rank",
        "token_f1",
    ),
    "probing": ("Probe", "SafetyReport", "probe_safety", "read_probes"),
    "running": ("RunResult", "evaluate", "read_result"),
    "significance": ("Difference", "compare_paired", "holm", "mcnemar", "permutation_test"),
    "statistics": (
        "Estimate",
        "bootstrap",
        "cohens_kappa",
        "estimate_mean",
        "estimate_proportion",
        "rank_correlation",
        "wilson_interval",
    ),
}
__all__ = [
    "ALONE",
    "DATA",
    "LAYERS",
    "Comparison",
    "Connection",
    "DatasetError",
    "Defence",
    "Difference",
    "Estimate",
    "EvaluationError",
    "Example",
    "Journal",
    "JudgeCase",
    "JudgeReport",
    "Probe",
    "Prompt",
    "Reply",
    "RunResult",
    "SafetyReport",
    "ServerError",
    "Source",
    "Verdict",
    "ask_all",
    "ask_all_and_wait",
    "bootstrap",
    "citation_precision",
    "citation_recall",
    "cohens_kappa",
    "compare_paired",
    "compare_runs",
    "estimate_mean",
    "estimate_proportion",
    "evaluate",
    "exact_match",
    "groundedness",
    "holm",
    "mcnemar",
    "ndcg_at_k",
    "permutation_test",
    "precision_at_k",
    "probe_safety",
    "rank_correlation",
    "read_examples",
    "read_judge_cases",
    "read_probes",
    "read_result",
    "read_verdict",
    "recall_at_k",
    "reciprocal_rank",
    "token_f1",
    "try_judge",
    "verdict_format",
    "wait_for",
    "wilson_interval",
    "write_examples",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it's first used, so that `minillm --help` needn't wait for NumPy."""
    from importlib import import_module

    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"minillm.evaluation.{module}"), name)
    raise AttributeError(f"module 'minillm.evaluation' has no attribute {name!r}")
