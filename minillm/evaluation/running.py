"""A run: a dataset put to a model, scored, with intervals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minillm.evaluation.asking import Progress, Prompt, ask_all
from minillm.evaluation.connection import Connection
from minillm.evaluation.dataset import Example
from minillm.evaluation.errors import DatasetError, EvaluationError
from minillm.evaluation.journal import Journal, Reply, partial_path, write_result
from minillm.evaluation.scoring import Metric, check_fit, find_metric
from minillm.evaluation.statistics import Estimate, estimate_mean

FORMAT = "minillm evaluation 1"


@dataclass(frozen=True)
class Scored:
    """An example's outcome.

    Attributes:
        id: the example's.
        scores: by metric. An answer that never came scores 0: whoever waited for it got nothing.
        reply: what the model said; None where it wasn't asked.
    """

    id: str
    scores: Mapping[str, float]
    reply: Reply | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"id": self.id, "scores": dict(self.scores), "reply": self.reply.as_dict() if self.reply else None}


@dataclass(frozen=True)
class RunResult:
    """What came out of a run.

    Attributes:
        model: that was asked.
        dataset: its name.
        fingerprint: of what is known about the examples. Runs with the same can be compared, whatever differs between
            them: the model, its options, the system prompt, the search.
        options: of the requests.
        estimates: the mean of each metric, with its interval.
        examples: in the dataset's order.
    """

    model: str
    dataset: str
    fingerprint: str
    options: Mapping[str, Any]
    estimates: Mapping[str, Estimate]
    examples: Sequence[Scored]

    @property
    def num_errors(self) -> int:
        """How many answers never came."""
        return sum(example.reply is not None and example.reply.error is not None for example in self.examples)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "model": self.model,
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "options": dict(self.options),
            "num_errors": self.num_errors,
            "metrics": {name: estimate.as_dict() for name, estimate in self.estimates.items()},
            "examples": [example.as_dict() for example in self.examples],
        }

    def write(self, path: str | Path) -> None:
        """Writes it as JSON.

        Raises:
            DatasetError: if it can't be written.
        """
        write_result(path, self.as_dict())


async def evaluate(
    connection: Connection | None,
    examples: Sequence[Example],
    metrics: Sequence[str],
    *,
    dataset: str = "examples",
    options: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    maximum: int = 64,
    seed: int = 0,
) -> RunResult:
    """Puts examples to a model and scores its answers.

    Args:
        connection: the server and the model; may be None where no metric needs an answer.
        examples: what to ask.
        metrics: names, see `find_metric`.
        dataset: the name that the result gives it.
        options: further fields of the requests; temperature 0 and 256 tokens at most where they don't say otherwise.
        output: where to write the result as JSON. Beside it, answers are kept until it's written; an interrupted run
            that is started again goes on from there.
        progress: see `ask_all`.
        maximum: the most requests in flight.
        seed: of the intervals' bootstrap.

    Raises:
        EvaluationError: if the examples don't have what a metric needs, before anything is asked.
        ServerError: as `ask_all`.
    """
    chosen = [find_metric(name) for name in dict.fromkeys(metrics)]
    if not chosen or not examples:
        raise EvaluationError(f"There are {len(chosen)} metrics and {len(examples)} examples; expected one or more.")
    check_fit(chosen, examples)
    fields = {"temperature": 0.0, "max_tokens": 256} | dict(options or {})
    replies: Sequence[Reply | None] = [None] * len(examples)
    journal = None
    if any(metric.needs_answer for metric in chosen):
        if connection is None:
            raise EvaluationError(f"{chosen[0].name} needs answers, and no server is named. Give a connection.")
        prompts = [Prompt(example.id, example.messages(), fields) for example in examples]
        journal = Journal(partial_path(output)) if output else None
        try:
            replies = await ask_all(connection, prompts, maximum=maximum, journal=journal, progress=progress)
        finally:
            if journal:
                journal.close()
    scored = [_score(example, reply, chosen) for example, reply in zip(examples, replies, strict=True)]
    estimates = {
        metric.name: estimate_mean([each.scores[metric.name] for each in scored], seed=seed) for metric in chosen
    }
    model = connection.model if connection and replies[0] else "no model"
    result = RunResult(model, dataset, fingerprint(examples), fields, estimates, scored)
    if output:
        result.write(output)
    if journal:
        journal.remove()
    return result


def _score(example: Example, reply: Reply | None, metrics: Sequence[Metric]) -> Scored:
    failed = reply is not None and reply.error is not None
    text = reply.text.strip() if reply else ""
    scores = {metric.name: 0.0 if failed and metric.needs_answer else metric.score(example, text) for metric in metrics}
    return Scored(example.id, scores, reply)


def fingerprint(examples: Sequence[Example]) -> str:
    """A hash of the questions, and of what is known about their answers."""
    contents = [
        [
            each.id,
            each.question,
            each.answers,
            [[source.id, source.text] for source in each.sources],
            dict(each.relevant),
        ]
        for each in examples
    ]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]


def read_result(path: str | Path) -> RunResult:
    """Reads what `RunResult.write` wrote.

    Raises:
        DatasetError: if it's something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{path} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f"{path} isn't the result of a run. Make one with: minillm eval run … --output {path}")
    try:
        examples = [
            Scored(each["id"], each["scores"], Reply(**each["reply"]) if each["reply"] else None)
            for each in content["examples"]
        ]
        estimates = {name: Estimate(**each) for name, each in content["metrics"].items()}
        model, dataset, of_examples, options = (
            content[name] for name in ("model", "dataset", "fingerprint", "options")
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} isn't a whole result of a run ({error!r}). Make it anew.") from error
    return RunResult(model, dataset, of_examples, options, estimates, examples)
