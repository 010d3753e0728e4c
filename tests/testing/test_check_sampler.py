"""The sampler suite: right samplers pass, each typical mistake fails the right lines with the right hint."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from minillm.engine import LLM
from minillm.sampling import FilteringSampler, SamplingMetadata, SamplingParams
from minillm.testing import check_sampler

FORM = "returns one token id per row, [num_seqs] int64"
GREEDY = "temperature 0 takes the most likely token"
SAME = "the same uniform gives the same token"
PROPORTION = "draws each token as often as its probability says"
TEMPERATURE = "temperature divides the logits"
TOP_K = "top-k keeps the k most likely tokens"
TOP_K_OFF = "top-k 0 is off, also beside rows with a limit"
TOP_K_BEYOND = "top-k beyond the vocabulary keeps everything"
TOP_P = "top-p keeps the token that crosses the threshold"
TOP_P_ONE = "top-p always keeps the most likely token"
TOP_P_AFTER = "top-p looks at the probabilities after temperature"
MIN_P = "min-p drops what is far less likely than the most likely token"
SUM = "what the filters leave adds up to 1 again"
ORDER = "filters apply in the order top-k, top-p, min-p"
FORBIDDEN = "a token with logit -inf is never drawn"
EXTREMES = "uniform 0 and the largest below 1 give a possible token"
LARGE_LOGITS = "large logits give no nan"
LARGE_VOCAB = "a vocabulary of 50,000 tokens works up to its ends"
MIXED = "greedy and sampled rows can share a batch"
OWN = "each row uses its own parameters"
NEIGHBORS = "a row's token doesn't depend on its neighbors"
INPUTS = "leaves its inputs as they were"


class Plain:
    """A right sampler the way a student might write it: rows sorted by probability, then one draw per row.

    The mutants below each change one method.
    """

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        greedy = logits.argmax(-1)
        temperature = torch.where(metadata.temperature == 0, 1.0, metadata.temperature)
        ordered, ids = self.scale(logits, temperature[:, None]).sort(-1, descending=True)
        probabilities = ordered.double().softmax(-1)
        probabilities = self.normalize(self.cut_top_k(probabilities, metadata.top_k[:, None]))
        probabilities = self.normalize(self.cut_top_p(probabilities, metadata.top_p[:, None]))
        probabilities = self.normalize(self.cut_min_p(probabilities, metadata.min_p[:, None]))
        rank = self.invert(probabilities.cumsum(-1), metadata.uniform[:, None])
        drawn = ids.gather(-1, rank).squeeze(-1)
        return torch.where(metadata.temperature == 0, greedy, drawn)

    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return logits / temperature

    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        rank = torch.arange(probabilities.shape[-1])
        return probabilities.masked_fill((rank >= k) & (k > 0), 0)

    def cut_top_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        before = probabilities.cumsum(-1) - probabilities
        return probabilities.masked_fill((before >= p) & (p < 1) & (before > 0), 0)

    def cut_min_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        return probabilities.masked_fill(probabilities < p * probabilities[:, :1], 0)

    def normalize(self, probabilities: Tensor) -> Tensor:
        return probabilities / probabilities.sum(-1, keepdim=True)

    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)


@pytest.mark.parametrize("sampler", [FilteringSampler, FilteringSampler(), Plain])
def test_right_samplers_pass(sampler: type) -> None:
    assert check_sampler(sampler).raise_if_failed().passed


def test_it_runs_by_rows_too() -> None:
    """Loops over rows in plain Python are slow, not wrong."""

    class Looping(Plain):
        def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
            rows = range(len(logits))
            parts = [
                super(Looping, self).sample(
                    logits[i : i + 1], SamplingMetadata(**{k: v[i : i + 1] for k, v in vars(metadata).items()})
                )
                for i in rows
            ]
            return torch.cat(parts)

    assert check_sampler(Looping).raise_if_failed().passed


# -- mutants ----------------------------------------------------------------------------------------------------


class DropsCrossingToken(Plain):
    def cut_top_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        return probabilities.masked_fill((probabilities.cumsum(-1) > p) & (p < 1), 0)


class DropsCrossingTokenButTheFirst(Plain):
    def cut_top_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        cut = (probabilities.cumsum(-1) > p) & (p < 1)
        cut[:, 0] = False
        return probabilities.masked_fill(cut, 0)


class KeepsOneTooManyInTopP(Plain):
    def cut_top_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        cut = (probabilities.cumsum(-1) - probabilities >= p) & (p < 1)
        cut = torch.cat([torch.zeros_like(cut[:, :1]), cut[:, :-1]], -1)
        return probabilities.masked_fill(cut, 0)


class IgnoresTopP(Plain):
    def cut_top_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        return probabilities


class CutsBeforeTemperature(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        cold = torch.where(metadata.temperature == 0, 1.0, metadata.temperature)[:, None]
        ordered, ids = logits.sort(-1, descending=True)
        model = ordered.double().softmax(-1)
        kept = self.cut_top_p(self.normalize(self.cut_top_k(model, metadata.top_k[:, None])), metadata.top_p[:, None])
        kept = self.cut_min_p(self.normalize(kept), metadata.min_p[:, None])
        probabilities = (ordered.double().masked_fill(kept == 0, -math.inf) / cold).softmax(-1)
        drawn = ids.gather(-1, self.invert(probabilities.cumsum(-1), metadata.uniform[:, None])).squeeze(-1)
        return torch.where(metadata.temperature == 0, logits.argmax(-1), drawn)


class UsesRowZerosParameters(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        first = {name: column[:1].expand_as(column) for name, column in vars(metadata).items()}
        return super().sample(logits, SamplingMetadata(**(first | {"uniform": metadata.uniform})))


class UsesRowZerosTopK(Plain):
    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        return super().cut_top_k(probabilities, k[:1])


class DividesByZero(Plain):
    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return logits / self.temperature

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        self.temperature = metadata.temperature[:, None]
        always_drawn = torch.where(metadata.temperature == 0, 1.0, metadata.temperature)
        return super().sample(logits, replace(metadata, temperature=always_drawn))

    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        return super().invert(cumulative, uniform).clamp(max=cumulative.shape[-1] - 1)


class GreedyForTheWholeBatch(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        if (metadata.temperature == 0).any():
            return logits.argmax(-1)
        return super().sample(logits, metadata)


class Multinomial(Plain):
    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        return torch.multinomial(cumulative.diff(dim=-1, prepend=torch.zeros_like(cumulative[:, :1])), 1)


class SeededMultinomial(Plain):
    """Repeats itself, yet a row's token depends on its place in the batch."""

    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        weights = cumulative.diff(dim=-1, prepend=torch.zeros_like(cumulative[:, :1]))
        return torch.multinomial(weights, 1, generator=generator)


class ForgetsRenormalization(Plain):
    """The draw finds no token for high uniforms; the last one in the list gets them."""

    def normalize(self, probabilities: Tensor) -> Tensor:
        return probabilities

    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        return torch.searchsorted(cumulative, uniform, right=True).clamp(max=cumulative.shape[-1] - 1)


class ForgetsRenormalizationAndTakesTheFirst(ForgetsRenormalization):
    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        return (cumulative > uniform).int().argmax(-1, keepdim=True)


class ForgetsRenormalizationAndRunsOver(Plain):
    """Only after top-k, and it returns a token that the vocabulary doesn't have."""

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        tokens = super().sample(logits, metadata)
        found = (metadata.uniform < self.total) | (metadata.temperature == 0)
        return torch.where(found, tokens, logits.shape[-1])

    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        kept = super().cut_top_k(probabilities, k)
        # Where nothing was cut the sum is taken as 1: added up, it's off by a rounding error that differs by machine.
        is_cut = (kept == 0).sum(-1) > (probabilities == 0).sum(-1)
        self.total = torch.where(is_cut, kept.sum(-1), 1.0)
        return kept


class MutatesLogits(Plain):
    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return logits.div_(temperature)


class MutatesMetadata(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        is_greedy = metadata.temperature == 0
        metadata.temperature[is_greedy] = 1
        return torch.where(is_greedy, logits.argmax(-1), super().sample(logits, metadata))


class SearchesLeft(FilteringSampler):
    """In order of ids: a forbidden token 0 is drawn with uniform 0."""

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        cumulative = self.probabilities(logits, metadata).double().cumsum(-1)
        drawn = torch.searchsorted(cumulative, metadata.uniform[:, None] * cumulative[:, -1:]).squeeze(-1)
        return torch.where(metadata.temperature == 0, logits.argmax(-1), drawn)


class SearchesOneTooFar(Plain):
    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        return (super().invert(cumulative, uniform) + 1).clamp(max=cumulative.shape[-1] - 1)


class KeepsKPlusOne(Plain):
    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        return super().cut_top_k(probabilities, torch.where(k > 0, k + 1, 0))


class KeepsKMinusOne(Plain):
    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        return super().cut_top_k(probabilities, torch.where(k > 1, k - 1, k))


class TopKZeroKeepsNothing(Plain):
    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        return super().cut_top_k(probabilities, k.clamp(min=1))


class TopKZeroIsOneBesideOthers(Plain):
    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        if not bool((k > 0).any()):
            return probabilities
        return super().cut_top_k(probabilities, k.clamp(min=1))


class TopKWithoutALimit(Plain):
    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        threshold = probabilities.gather(-1, torch.where(k > 0, k, probabilities.shape[-1]) - 1)
        return probabilities.masked_fill(probabilities < threshold, 0)


class ReturnsColumn(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return super().sample(logits, metadata)[:, None]


class ReturnsFloats(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return super().sample(logits, metadata).float()


class ReturnsList(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return super().sample(logits, metadata).tolist()  # type: ignore[return-value]


class ReturnsRanks(Plain):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        ordered = logits.sort(-1, descending=True).values
        return torch.where(metadata.temperature == 0, logits.argmax(-1), super().sample(ordered, metadata))


class MultipliesByTemperature(Plain):
    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return logits * temperature


class IgnoresTemperature(Plain):
    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return logits


class AbsoluteMinP(Plain):
    def cut_min_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        return probabilities.masked_fill((probabilities < p) & (probabilities < probabilities[:, :1]), 0)


class TopPBeforeTopK(Plain):
    def cut_top_k(self, probabilities: Tensor, k: Tensor) -> Tensor:
        self.k = k
        return probabilities

    def cut_top_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        return super().cut_top_k(super().cut_top_p(probabilities, p), self.k)


class RoundsUniform(Plain):
    def invert(self, cumulative: Tensor, uniform: Tensor) -> Tensor:
        index = torch.searchsorted(cumulative.float(), uniform.float(), right=True)
        return index.clamp(max=cumulative.shape[-1] - 1)


class RoundsUniformAndRunsOver(FilteringSampler):
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        cumulative = self.probabilities(logits, metadata).cumsum(-1)
        return torch.searchsorted(cumulative, metadata.uniform.float()[:, None], right=True).squeeze(-1)


class OwnSoftmax(Plain):
    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        weights = (logits / temperature).exp()
        return (weights / weights.sum(-1, keepdim=True)).log()


class AddsEpsilon(Plain):
    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return ((logits / temperature).softmax(-1) + 1e-4).log()


class SoftmaxOverTheBatch(Plain):
    def scale(self, logits: Tensor, temperature: Tensor) -> Tensor:
        return (logits / temperature).softmax(0).log()


class NotWrittenYet:
    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        raise NotImplementedError


class NormalizesOverTheBatch(Plain):
    def cut_min_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        return probabilities.masked_fill(probabilities < p * probabilities.max(), 0)


class DropsTheLastAtTopPOne(Plain):
    def cut_top_p(self, probabilities: Tensor, p: Tensor) -> Tensor:
        cut = probabilities.cumsum(-1) >= p.double() - 1e-9
        cut[:, 0] = False
        return probabilities.masked_fill(cut, 0)


# Each typical mistake: the behaviors that fail, no others, and what the hints under each say.
MISTAKES: list[tuple[type, dict[str, str]]] = [
    (
        DropsCrossingToken,
        {TOP_P: "The token whose probability crosses top_p is dropped", TOP_P_ONE: "stay however small top_p is"},
    ),
    (DropsCrossingTokenButTheFirst, {TOP_P: "cut where cumulative - probability >= top_p"}),
    (
        KeepsOneTooManyInTopP,
        {TOP_P: "One token too many is kept", TOP_P_ONE: "if the most likely token alone holds more than top_p"},
    ),
    (IgnoresTopP, {TOP_P: "top_p has no effect", TOP_P_ONE: "it alone where it holds top_p"}),
    (DropsTheLastAtTopPOne, {PROPORTION: "top_p is 1, and then no token may be dropped"}),
    (CutsBeforeTemperature, {TOP_P_AFTER: "top-p cuts by the probabilities from before the temperature"}),
    (UsesRowZerosParameters, {OWN: "One row's temperature is used for the whole batch", MIXED: "its own temperature"}),
    (UsesRowZerosTopK, {OWN: "One row's top_k is used for the whole batch"}),
    (DividesByZero, {GREEDY: "logits / 0 is inf or nan", MIXED: "torch.where"}),
    (GreedyForTheWholeBatch, {MIXED: "choose per row"}),
    (Multinomial, {SAME: "doesn't come from metadata.uniform", PROPORTION: "torch.multinomial"}),
    (SeededMultinomial, {SAME: "doesn't come from metadata.uniform", PROPORTION: "torch.multinomial"}),
    (
        ForgetsRenormalization,
        dict.fromkeys((TOP_K, TOP_P, TOP_P_ONE, MIN_P, SUM, ORDER), "no longer add up to 1"),
    ),
    (
        ForgetsRenormalizationAndTakesTheFirst,
        dict.fromkeys((TOP_K, TOP_P, MIN_P, SUM), "no longer add up to 1") | {ORDER: "add up to 1 again"},
    ),
    (
        ForgetsRenormalizationAndRunsOver,
        dict.fromkeys((TOP_K, TOP_K_OFF, SUM, ORDER, OWN, NEIGHBORS), "no longer add up to 1"),
    ),
    (MutatesLogits, {INPUTS: "div_(), masked_fill_(), logits /="}),
    (MutatesMetadata, {INPUTS: "writes into the tensors"}),
    (SearchesLeft, {EXTREMES: "searchsorted(…, right=True)"}),
    (SearchesOneTooFar, {PROPORTION: "A shift by one gives each token its neighbor's probability"}),
    (KeepsKPlusOne, {TOP_K: "One token too many is kept: an off-by-one"}),
    (KeepsKMinusOne, {TOP_K: "One token too few is kept: an off-by-one"}),
    (TopKZeroKeepsNothing, {PROPORTION: "top_k 0 isn't a limit of 0 tokens"}),
    (TopKZeroIsOneBesideOthers, {TOP_K_OFF: "torch.where(top_k > 0, top_k, vocab_size)"}),
    (TopKWithoutALimit, {TOP_K_BEYOND: "top_k.clamp(max=vocab_size)"}),
    (ReturnsColumn, {FORM: ".squeeze(-1)"}),
    (ReturnsFloats, {FORM: "dtype=torch.int64"}),
    (ReturnsList, {FORM: "torch.tensor(tokens"}),
    (ReturnsRanks, {PROPORTION: "ranks in the sorted list, not token ids"}),
    (
        MultipliesByTemperature,
        {TEMPERATURE: "works the wrong way round", TOP_P_AFTER: "Divide the logits"},
    ),
    (
        IgnoresTemperature,
        {TEMPERATURE: "has no effect", TOP_P_AFTER: "from before the temperature"},
    ),
    (AbsoluteMinP, {MIN_P: "a share of the most likely token's probability"}),
    (TopPBeforeTopK, {ORDER: "top-p is measured before top-k has cut and renormalized"}),
    (RoundsUniform, dict.fromkeys((EXTREMES, LARGE_VOCAB), "in float32 the largest ones round up to exactly 1")),
    (RoundsUniformAndRunsOver, dict.fromkeys((EXTREMES, LARGE_VOCAB), "in float32 the largest ones round up")),
    (OwnSoftmax, {LARGE_LOGITS: "torch.softmax subtracts the row's maximum"}),
    (AddsEpsilon, {FORBIDDEN: "Adding a small number", EXTREMES: "below 1", LARGE_VOCAB: "below 1"}),
    (SoftmaxOverTheBatch, {PROPORTION: "dim=-1, and not over the rows"}),
    (NormalizesOverTheBatch, {NEIGHBORS: "max and sum all need dim=-1"}),
    (NotWrittenYet, {"has a method sample(logits, metadata) that can be called": "metadata.temperature"}),
    (object, {"has a method sample(logits, metadata) that can be called": "class MySampler"}),
]


@pytest.mark.parametrize(("sampler", "hints"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_mistake_fails_its_behaviors_and_is_named(sampler: type, hints: dict[str, str]) -> None:
    torch.manual_seed(0)  # for those that draw from PyTorch's own generator
    report = check_sampler(sampler)
    assert {behavior.name for behavior in report.failed} == set(hints)
    for behavior in report.failed:
        assert hints[behavior.name] in f"{behavior.hint} {behavior.strong_hint}"
        assert behavior.detail
        assert hints[behavior.name] in str(report) + str(report.hint())


def test_the_detail_is_the_smallest_example() -> None:
    behavior = check_sampler(KeepsKPlusOne).failed[0]
    assert behavior.detail == (
        "for the probabilities [0.15, 0.5, 0.05, 0.3], top_k 1 it drew [0, 0.62, 0, 0.38]; expected [0, 1, 0, 0]"
    )


def test_a_missing_foundation_ends_the_report_and_says_so() -> None:
    report = check_sampler(Multinomial)
    assert len(report.behaviors) == 3
    assert "more follows once this holds" in report.summary()


def test_an_object_is_used_as_it_is_and_a_class_anew_for_every_call() -> None:
    class Counting(FilteringSampler):
        built = 0

        def __init__(self) -> None:
            type(self).built += 1

    check_sampler(Counting()).raise_if_failed()
    assert Counting.built == 1
    check_sampler(Counting).raise_if_failed()
    assert Counting.built > 20


def test_a_class_that_cannot_be_built_is_told_so() -> None:
    class NeedsArguments(FilteringSampler):
        def __init__(self, vocab_size: int) -> None: ...

    (behavior,) = check_sampler(NeedsArguments).behaviors
    assert "vocab_size" in behavior.detail
    assert "without arguments" in behavior.hint


def test_what_passes_serves_requests() -> None:
    params = [SamplingParams(temperature=0, max_tokens=8), SamplingParams(top_p=0.8, seed=3, max_tokens=8)]
    own = LLM("tiny-random").generate(["The cat", "The dog"], params)
    plugged_in = LLM("tiny-random", sampler=Plain).generate(["The cat", "The dog"], params)
    assert plugged_in[0].token_ids == own[0].token_ids
    assert len(plugged_in[1].token_ids) == 8
