"""`check_sampler`: what a sampler must do before it chooses tokens for the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from minillm.sampling import Sampler, SamplingMetadata, SamplingParams
from minillm.testing.draws import (
    PER_ROW,
    RANDOM,
    ROUNDING,
    UNNORMALIZED,
    Mistake,
    SamplerProbe,
    at_temperature,
    example,
    failed,
    fits,
    kept,
    logits_of,
    masked,
    sampling_params,
    shares,
    surplus_on_one,
    words,
)
from minillm.testing.report import Behavior, Case, CheckFailed, Report, run_cases

LARGEST_UNIFORM = math.nextafter(1.0, 0.0)
FEW_UNIFORMS = [(i + 0.5) / 20 for i in range(20)]
LARGE_VOCAB = 50_000

# Neither sorted nor with the most likely token in front, so that mixing up ranks and ids shows.
PROBABILITIES = (0.15, 0.5, 0.05, 0.3)
MOST_LIKELY = 1
FORBIDDING = (-math.inf, 0.3, -math.inf, 0.1, -math.inf)


def check_sampler(sampler: Sampler | type) -> Report:
    """Checks a sampler against the protocol `minillm.sampling.Sampler`, by what it returns only.

    Args:
        sampler: an object with `sample(logits, metadata)`, or a class whose constructor needs no arguments.

    Returns:
        The report, a line per behavior. `report.raise_if_failed()` raises it, `report.hint()` says more.
    """
    name = sampler.__name__ if isinstance(sampler, type) else type(sampler).__name__
    suite, behaviors = _Suite(sampler), list[Behavior]()
    # Each stage rests on the one before it. While that fails, the later lines would only mislead.
    *foundations, others = suite.stages()
    for stage in foundations:
        behaviors += run_cases(name, stage).behaviors
        if not all(behavior.passed for behavior in behaviors):
            return Report(f"sampler {name} (more follows once this holds)", behaviors)
    return Report(f"sampler {name}", behaviors + run_cases(name, others).behaviors)


class _Suite(SamplerProbe):
    """The behaviors."""

    def stages(self) -> list[list[Case]]:
        """All behaviors, the simple ones first."""
        filters = [*self._top_k_cases(), *self._top_p_cases(), *self._filter_cases()]
        others = [*self._basic_cases(), *filters, *self._edge_cases(), *self._batch_cases()]
        return [self._call_cases(), self._draw_cases(), others]

    # -- the foundations ----------------------------------------------------------------------------------------

    def _call_cases(self) -> list[Case]:
        return [
            Case(
                "has a method sample(logits, metadata) that can be called",
                lambda: self.call(logits_of(PROBABILITIES)[None], [SamplingParams()], [0.5]),
                "A sampler is an object with the method sample, built by its class without arguments.",
                "class MySampler: def sample(self, logits, metadata): …, with logits [num_seqs, vocab_size], and one "
                "number per row in metadata.temperature, .top_k, .top_p, .min_p and .uniform.",
            )
        ]

    def _draw_cases(self) -> list[Case]:
        return [
            Case("the same uniform gives the same token", self._repeatable, *RANDOM),
            Case(
                "draws each token as often as its probability says",
                self._proportional,
                "Add up the probabilities token by token; each token owns an interval as long as its probability.",
                "Take the first token whose running sum of probabilities exceeds uniform: probabilities.cumsum(-1), "
                "then torch.searchsorted(cumulative, uniform[:, None], right=True). A shift by one gives each token "
                "its neighbor's probability.",
            ),
        ]

    def _repeatable(self) -> None:
        num = 60
        rows, params = logits_of(PROBABILITIES).repeat(num, 1), [SamplingParams()] * num
        tokens = set(self.tokens(rows, params, [0.6] * num))
        if len(tokens) > 1:
            raise CheckFailed(
                f"{num} rows with the same probabilities and the same uniform, 0.6, got different tokens: "
                f"{', '.join(map(str, sorted(tokens)))}"
            )
        spread = [(i + 0.5) / num for i in range(num)]
        if self.tokens(rows, params, spread) != self.tokens(rows, params, spread):
            raise CheckFailed("the same call, made twice, returned different tokens")

    def _proportional(self) -> None:
        only_one = Mistake(
            kept(PROBABILITIES, _likeliest(1)),
            "Only the most likely token is ever drawn, though nothing limits the choice.",
            "Without filters top_k is 0, top_p 1 and min_p 0: each of these means off, and top_k 0 isn't a limit of 0 "
            "tokens. Only temperature 0 asks for the most likely token.",
        )
        without_last = Mistake(
            kept(PROBABILITIES, _likeliest(len(PROBABILITIES) - 1)),
            "The least likely token is never drawn, though nothing limits the choice.",
            "Without filters top_p is 1, and then no token may be dropped. A cut where cumulative >= top_p drops the "
            "last one.",
        )
        even = Mistake(
            [1 / len(PROBABILITIES)] * len(PROBABILITIES),
            "Every token is drawn equally often, whatever its logit.",
            "Look at the softmax: it has to run over the vocabulary, dim=-1, and not over the rows of the batch.",
        )
        self.expect(PROBABILITIES, {}, PROBABILITIES, [only_one, without_last, even])

    # -- the basics ---------------------------------------------------------------------------------------------

    def _basic_cases(self) -> list[Case]:
        return [
            Case(
                "returns one token id per row, [num_seqs] int64",
                self._form,
                "Look at the shape and the type of the tensor that you return.",
                "One int64 number for each row of the logits, as a tensor with a single dimension.",
            ),
            Case(
                "temperature 0 takes the most likely token",
                self._greedy,
                "Temperature 0 means: no randomness, the token with the highest logit. It can't be divided by.",
                "logits / 0 is inf or nan, and a softmax over those is nan. Divide rows with temperature 0 by 1, take "
                "logits.argmax(-1) for them, and choose between the two results with torch.where.",
            ),
            Case(
                "temperature divides the logits",
                self._temperature,
                "Scale the logits first, then take the softmax: softmax(logits / temperature).",
                "A temperature below 1 makes likely tokens likelier, one above 1 evens them out. It divides the "
                "logits; dividing probabilities by it changes nothing once they are normalized.",
            ),
        ]

    def _form(self) -> None:
        result = self.call(logits_of(PROBABILITIES).repeat(3, 1), [SamplingParams()] * 3, [0.1, 0.5, 0.9])
        if not isinstance(result, Tensor):
            raise CheckFailed(
                f"for logits of shape [3, 4] it returned a {type(result).__name__}, not a tensor",
                strong_hint="Make it a tensor: torch.tensor(tokens, dtype=torch.int64, device=logits.device).",
            )
        form = f"{result.dtype} of shape {list(result.shape)}".removeprefix("torch.")
        detail = f"for logits of shape [3, 4] it returned {form}; expected int64 of shape [3]"
        if result.shape == (3, 1):
            raise CheckFailed(
                detail,
                hint="There is one dimension too many: a column where a flat list of tokens is expected.",
                strong_hint="searchsorted, multinomial and argmax(keepdim=True) give [3, 1]; end with .squeeze(-1). "
                "Not with .squeeze(): it would also drop the dimension of a batch of one.",
            )
        if result.shape == (3,) and result.dtype != torch.int64:
            raise CheckFailed(
                detail,
                hint="Token ids are whole numbers that index a table of embeddings; the type is wrong.",
                strong_hint="argmax, searchsorted and the indices of sort are int64 already. A tensor made with "
                "zeros() or empty() isn't, unless you say dtype=torch.int64.",
            )
        if result.shape != (3,):
            raise CheckFailed(detail)

    def _greedy(self) -> None:
        for uniform in (0.0, 0.5, 0.99):
            token = self.tokens(logits_of(PROBABILITIES)[None], [SamplingParams(temperature=0)], [uniform])[0]
            if token != MOST_LIKELY:
                raise CheckFailed(
                    f"{example(PROBABILITIES, {'temperature': 0})} and uniform {uniform} it returned token {token}; "
                    f"expected {MOST_LIKELY}, the most likely one"
                )

    def _temperature(self) -> None:
        for temperature in (0.5, 2.0):
            no_effect = Mistake(
                PROBABILITIES,
                "The temperature has no effect on what is drawn.",
                "Divide the logits by it, before the softmax: probabilities divided by the temperature are the same "
                "again once they are normalized.",
            )
            reversed_effect = Mistake(
                at_temperature(PROBABILITIES, 1 / temperature),
                "The temperature works the wrong way round: a low one should make likely tokens likelier.",
                "Divide the logits by the temperature; multiplying does the opposite.",
            )
            expected = at_temperature(PROBABILITIES, temperature)
            self.expect(PROBABILITIES, {"temperature": temperature}, expected, [no_effect, reversed_effect])

    # -- top-k --------------------------------------------------------------------------------------------------

    def _top_k_cases(self) -> list[Case]:
        return [
            Case(
                "top-k keeps the k most likely tokens",
                self._top_k,
                "Count the tokens that are left.",
                "The threshold is the k-th highest logit, at position k - 1 of the sorted row. Set what is below it to "
                "-inf.",
            ),
            Case(
                "top-k 0 is off, also beside rows with a limit",
                self._top_k_off,
                "top_k = 0 means no limit. A row with 0 may share its batch with rows that have one.",
                "A row with top_k = 0 keeps every token: set its k to the size of the vocabulary, "
                "torch.where(top_k > 0, top_k, vocab_size), or leave the row out of the cut.",
            ),
            Case(
                "top-k beyond the vocabulary keeps everything",
                lambda: self.expect(PROBABILITIES, {"top_k": len(PROBABILITIES) + 5}, PROBABILITIES),
                "There may be fewer tokens than k.",
                "torch.topk and an index into the sorted row fail for k above the size of the vocabulary. Limit k: "
                "top_k.clamp(max=vocab_size).",
            ),
        ]

    def _top_k(self) -> None:
        for k in (1, 2, 3):
            mistakes = [
                Mistake(
                    kept(PROBABILITIES, _likeliest(k + 1)),
                    "One token too many is kept: an off-by-one in the index of the threshold.",
                    "The k-th highest logit is at position k - 1 of the sorted row, since counting starts at 0. Cut "
                    "what is below that one.",
                ),
                Mistake(PROBABILITIES, "top_k has no effect.", "Set all logits but the k highest to -inf."),
            ]
            if k > 1:
                too_few = Mistake(
                    kept(PROBABILITIES, _likeliest(k - 1)),
                    "One token too few is kept: an off-by-one, or the k-th token is cut with those below it.",
                    "Cut what is strictly below the k-th highest logit: logits < threshold, not <=.",
                )
                mistakes.append(too_few)
            unnormalized = masked(PROBABILITIES, _likeliest(k)) if k < 3 else None
            expected = kept(PROBABILITIES, _likeliest(k))
            self.expect(PROBABILITIES, {"top_k": k}, expected, mistakes, unnormalized=unnormalized)

    def _top_k_off(self) -> None:
        alone, together = self._few_draws({"top_k": 0}), self._few_draws({"top_k": 0}, {"top_k": 2})[::2]
        for uniform, a, b in zip(FEW_UNIFORMS, together, alone, strict=True):
            if a != b:
                raise CheckFailed(
                    f"{example(PROBABILITIES, {})} and top_k 0 in row 0, 2 in row 1, uniform {uniform} gave row 0 the "
                    f"token {a}; without row 1 it gives {b}"
                )

    # -- top-p --------------------------------------------------------------------------------------------------

    def _top_p_cases(self) -> list[Case]:
        return [
            Case(
                "top-p keeps the token that crosses the threshold",
                self._top_p,
                "Look at the last token that should stay: its own probability takes the sum to top_p or beyond.",
                "Go through the tokens from the most likely on and keep each one as long as the sum of those before "
                "it is below top_p: cut where cumulative - probability >= top_p.",
            ),
            Case(
                "top-p always keeps the most likely token",
                self._top_p_keeps_one,
                "What is left if the most likely token alone holds more than top_p?",
                "If every token is cut, nothing remains to draw and the softmax is nan. The most likely token has to "
                "stay however small top_p is, and it alone where it holds top_p: cut[:, 0] = False.",
            ),
            Case(
                "top-p looks at the probabilities after temperature",
                self._top_p_after_temperature,
                "Mind the order: temperature first, then the filters.",
                "Divide by the temperature first and compute the probabilities for top-p from the scaled logits.",
            ),
        ]

    def _top_p(self) -> None:
        # In order of probability 0.5, 0.3, 0.15, 0.05; the running sums are 0.5, 0.8, 0.95, 1.
        for top_p, num_kept in ((0.6, 2), (0.9, 3)):
            mistakes = [
                Mistake(
                    kept(PROBABILITIES, _likeliest(num_kept - 1)),
                    "The token whose probability crosses top_p is dropped; without it the rest holds less than top_p.",
                    "A cut where cumulative > top_p drops the crossing token as well. Compare the sum of the tokens "
                    "before it: cut where cumulative - probability >= top_p.",
                ),
                Mistake(
                    kept(PROBABILITIES, _likeliest(num_kept + 1)),
                    "One token too many is kept: those before it already hold top_p.",
                    "Cut each token for which the sum of those before it has reached top_p. If you shift the mask by "
                    "one, shift it once only.",
                ),
                Mistake(
                    PROBABILITIES,
                    "top_p has no effect.",
                    "Sort the tokens by probability, add up, and cut those after the sum has reached top_p.",
                ),
            ]
            unnormalized = masked(PROBABILITIES, _likeliest(num_kept)) if num_kept < 3 else None
            expected = kept(PROBABILITIES, _likeliest(num_kept))
            self.expect(PROBABILITIES, {"top_p": top_p}, expected, mistakes, unnormalized=unnormalized)

    def _top_p_keeps_one(self) -> None:
        unnormalized = masked(PROBABILITIES, _likeliest(1))
        for top_p in (0.3, 1e-6):
            self.expect(PROBABILITIES, {"top_p": top_p}, kept(PROBABILITIES, _likeliest(1)), unnormalized=unnormalized)

    def _top_p_after_temperature(self) -> None:
        # At temperature 10 the tokens hold 0.27, 0.26, 0.24 and 0.22: it takes all four for 0.79, before only two.
        params = {"temperature": 10.0, "top_p": 0.79}
        expected = self.drawn_shares(at_temperature(PROBABILITIES, 10.0), {"top_p": 0.79})
        cut_before = Mistake(
            self._in_turn(PROBABILITIES, {"top_p": 0.79}, {"temperature": 10.0}),
            "top-p cuts by the probabilities from before the temperature.",
            "At this temperature the tokens are nearly even, so it takes more of them to hold top_p. Divide the logits "
            "by the temperature before you compute the probabilities for top-p.",
        )
        self.expect(PROBABILITIES, params, expected, [cut_before])

    def _in_turn(
        self, probabilities: Sequence[float], first: Mapping[str, float], then: Mapping[str, float]
    ) -> list[float]:
        """What the sampler itself draws with one filter if another one has been there before it.

        A sampler whose filters are wrong in themselves is judged for their order alone.
        """
        left = set(self.draws(probabilities, first))
        return self.drawn_shares(masked(probabilities, left), then)

    # -- min-p, and filters together ----------------------------------------------------------------------------

    def _filter_cases(self) -> list[Case]:
        return [
            Case(
                "min-p drops what is far less likely than the most likely token",
                self._min_p,
                "min_p is a share of the highest probability.",
                "Keep the tokens with probability >= min_p * probabilities.amax(-1, keepdim=True).",
            ),
            Case("what the filters leave adds up to 1 again", self._renormalized, *UNNORMALIZED),
            Case(
                "filters apply in the order top-k, top-p, min-p",
                self._order,
                "Each filter works on what the one before it left.",
                "After top-k the remaining probabilities add up to 1 again, and top-p is measured against those. "
                "min-p comes last.",
            ),
        ]

    def _min_p(self) -> None:
        absolute = Mistake(
            kept(PROBABILITIES, _likeliest(1)),
            "min_p is taken as a probability. It's a share of the most likely token's probability.",
            "Compare with min_p * probabilities.amax(-1, keepdim=True): here 0.4 * 0.5 = 0.2.",
        )
        no_effect = Mistake(
            PROBABILITIES,
            "min_p has no effect.",
            "Drop the tokens with probability < min_p * probabilities.amax(-1, keepdim=True).",
        )
        two = _likeliest(2)
        unnormalized = masked(PROBABILITIES, two)
        self.expect(
            PROBABILITIES, {"min_p": 0.4}, kept(PROBABILITIES, two), [absolute, no_effect], unnormalized=unnormalized
        )

    def _renormalized(self) -> None:
        """Only looks for that one mistake: the filters have behaviors of their own."""
        two = _likeliest(2)
        filters: list[dict[str, float]] = [{"top_k": 2}, {"top_p": 0.6}, {"min_p": 0.4}]
        for params in filters:
            drawn = self.drawn_shares(PROBABILITIES, params)
            if surplus_on_one(drawn, masked(PROBABILITIES, two)):
                raise CheckFailed(
                    f"{example(PROBABILITIES, params)} it drew {words(drawn)}; expected "
                    f"{words(kept(PROBABILITIES, two))}"
                )

    def _order(self) -> None:
        even = (0.2, 0.4, 0.1, 0.3)
        # Of 0.4, 0.3, 0.2, 0.1 three tokens hold 0.75; of what top-k 3 leaves, 0.44, 0.33, 0.22, two do.
        self._expect_order(
            even,
            {"top_k": 3},
            {"top_p": 0.75},
            "top-p is measured before top-k has cut and renormalized.",
            "Apply top-k first. What it leaves holds more each, so fewer tokens are enough for top_p.",
        )
        # Two tokens hold 0.5, and neither is below 0.6 * 0.4. Of what min-p alone leaves, one would hold 0.57.
        self._expect_order(
            even,
            {"top_p": 0.5},
            {"min_p": 0.6},
            "min-p has cut before top-p.",
            "Apply min-p last. If it cuts first, the rest holds more each, and top-p keeps too few.",
        )

    def _expect_order(
        self,
        probabilities: Sequence[float],
        first: Mapping[str, float],
        then: Mapping[str, float],
        hint: str,
        strong_hint: str,
    ) -> None:
        params = {**first, **then}
        expected = self._in_turn(probabilities, first, then)
        if not fits(self.drawn_shares(probabilities, params), expected):
            swapped = Mistake(self._in_turn(probabilities, then, first), hint, strong_hint)
            self.expect(probabilities, params, expected, [swapped], unnormalized=masked(probabilities, _likeliest(2)))

    # -- the edges ----------------------------------------------------------------------------------------------

    def _edge_cases(self) -> list[Case]:
        return [
            Case(
                "a token with logit -inf is never drawn",
                self._forbidden,
                "A logit of -inf forbids the token, in every row and with every uniform.",
                "softmax turns -inf into probability 0; keep it that way. Adding a small number to all "
                "probabilities, or clamping a result to the last token, lets forbidden ones in.",
            ),
            Case(
                "uniform 0 and the largest below 1 give a possible token",
                self._extremes,
                "The two ends of the running sum need care.",
                ROUNDING[1],
            ),
            Case(
                "large logits give no nan",
                self._large_logits,
                "exp(10000) is inf, and inf / inf is nan.",
                "torch.softmax subtracts the row's maximum before it takes exp. If you write the softmax yourself, do "
                "the same.",
            ),
            Case(
                "a vocabulary of 50,000 tokens works up to its ends",
                self._large_vocab,
                "Over many tokens the rounding errors of a float32 running sum add up.",
                ROUNDING[1],
            ),
        ]

    def _forbidden(self) -> None:
        uniforms = [1e-5, *FEW_UNIFORMS, 1 - 1e-5]
        num = len(uniforms)
        tokens = self.tokens(torch.tensor(FORBIDDING).repeat(num, 1), [SamplingParams()] * num, uniforms)
        for uniform, token in zip(uniforms, tokens, strict=True):
            if FORBIDDING[token] == -math.inf:
                raise CheckFailed(
                    f"for the logits {list(FORBIDDING)} and uniform {uniform} it drew token {token}, which is forbidden"
                )

    def _extremes(self) -> None:
        for uniform, name in ((0.0, "uniform 0"), (LARGEST_UNIFORM, "the largest uniform below 1")):
            token = self.tokens(torch.tensor(FORBIDDING)[None], [SamplingParams()], [uniform])[0]
            if FORBIDDING[token] > -math.inf:
                continue
            detail = f"for the logits {list(FORBIDDING)} and {name} it drew token {token}, which is forbidden"
            if uniform > 0:
                raise failed(detail, ROUNDING)
            raise CheckFailed(
                detail,
                hint="With uniform 0 a token of probability 0 is drawn: the search stops too early.",
                strong_hint="The running sum begins with zeros, and 0 >= 0 holds for them. Take the first token whose "
                "running sum is greater than uniform, not greater or equal: searchsorted(…, right=True).",
            )

    def _large_logits(self) -> None:
        logits = (-1e4, 1e4, 1e4 - 1, 0.0)
        expected = (0.0, 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1)), 0.0)
        num = 100
        rows, uniforms = torch.tensor(logits).repeat(num, 1), [(i + 0.5) / num for i in range(num)]
        drawn = shares(self.tokens(rows, [SamplingParams()] * num, uniforms), len(logits))
        if any(abs(a - b) > 2 / num or (a > 0 and b == 0) for a, b in zip(drawn, expected, strict=True)):
            raise CheckFailed(f"for the logits {list(logits)} it drew {words(drawn)}; expected {words(expected)}")

    def _large_vocab(self) -> None:
        # Close to even, so that the running sum is long; the second half is forbidden.
        logits = torch.linspace(0, 1, LARGE_VOCAB).cos()
        logits[LARGE_VOCAB // 2 :] = -math.inf
        uniforms = [0.0, 0.25, 0.5, 0.75, 1 - 1e-7, LARGEST_UNIFORM]
        tokens = self.tokens(logits.repeat(len(uniforms), 1), [SamplingParams()] * len(uniforms), uniforms)
        for uniform, token in zip(uniforms, tokens, strict=True):
            if token >= LARGE_VOCAB // 2:
                raise failed(
                    f"with {LARGE_VOCAB} tokens, the second half of them forbidden, uniform {uniform!r} drew the "
                    f"forbidden token {token}",
                    ROUNDING,
                )

    # -- rows that share a batch --------------------------------------------------------------------------------

    def _batch_cases(self) -> list[Case]:
        return [
            Case(
                "greedy and sampled rows can share a batch",
                self._mixed_greedy,
                "Each row has its own temperature; some may be 0 while others aren't.",
                "Compute both results for all rows and choose per row: "
                "torch.where(metadata.temperature == 0, greedy, drawn).",
            ),
            Case(
                "each row uses its own parameters",
                self._own_parameters,
                "Rows of one batch belong to different requests, each with parameters of its own.",
                "metadata's tensors have one entry per row. Give them a second dimension, "
                "metadata.temperature[:, None], so that each row of the logits meets its own number.",
            ),
            Case("a row's token doesn't depend on its neighbors", self._neighbors, *PER_ROW),
            Case(
                "leaves its inputs as they were",
                self._inputs,
                "Something writes into the tensors that the caller passed in.",
                "div_(), masked_fill_(), logits /= … and logits[…] = … change the caller's tensor, which the engine "
                "still needs for log-probabilities. Use the forms without the underscore, or clone() first.",
            ),
        ]

    def _mixed_greedy(self) -> None:
        alone = self._few_draws({"temperature": 1.0})
        for temperatures in ((0.0, 1.0), (1.0, 0.0)):
            together = self._few_draws(*({"temperature": t} for t in temperatures))
            greedy, sampled = temperatures.index(0.0), temperatures.index(1.0)
            setting = f"{example(PROBABILITIES, {})} and the temperatures {temperatures[0]:g}, {temperatures[1]:g}"
            if wrong := [token for token in together[greedy::2] if token != MOST_LIKELY]:
                raise CheckFailed(
                    f"{setting}, the row with temperature 0 got token {wrong[0]}; expected {MOST_LIKELY}, the most "
                    "likely one"
                )
            for uniform, got, expected in zip(FEW_UNIFORMS, together[sampled::2], alone, strict=True):
                if got != expected:
                    raise CheckFailed(
                        f"{setting}, the row with temperature 1 and uniform {uniform} got token {got}; without greedy "
                        f"rows it gets {expected}"
                    )

    def _few_draws(self, *params: Mapping[str, float]) -> list[int]:
        """For each of a few uniforms one row per entry of `params`, all in one batch."""
        num, rows = len(params), [sampling_params(each) for each in params]
        logits = logits_of(PROBABILITIES).repeat(len(FEW_UNIFORMS) * num, 1)
        return self.tokens(logits, rows * len(FEW_UNIFORMS), [u for u in FEW_UNIFORMS for _ in range(num)])

    def _own_parameters(self) -> None:
        settings: dict[str, list[tuple[float, float]]] = {
            "temperature": [(0.5, 2.0)],
            "top_k": [(1, 3)],
            "top_p": [(0.6, 0.9), (1.0, 0.6)],
            "min_p": [(0.4, 0.2), (0.0, 0.4)],
        }
        for name, values in ((name, values) for name, pairs in settings.items() for values in pairs):
            alone = [self._few_draws({name: value}) for value in values]
            together = self._few_draws(*({name: value} for value in values))
            for row in (0, 1):
                if (tokens := together[row::2]) == alone[row]:
                    continue
                swapped = tokens == alone[1 - row]
                hint = f"One row's {name} is used for the whole batch." if swapped else f"The rows' {name} mix."
                raise CheckFailed(
                    f"{example(PROBABILITIES, {})} and {name} {values[0]:g} in row 0, {values[1]:g} in row 1, row "
                    f"{row} isn't drawn as in a batch in which all have {name} {values[row]:g}",
                    hint=hint,
                )

    def _neighbors(self) -> None:
        rows = torch.stack([logits_of(p) for p in (PROBABILITIES, (0.1, 0.2, 0.25, 0.45), (0.3, 0.1, 0.4, 0.2))])
        rows[1] += 50  # which no softmax of the row itself minds
        settings: list[dict[str, float]] = [{}, {"top_k": 2}, {"top_p": 0.6}, {"min_p": 0.4}]
        for given in settings:
            params = sampling_params(given)
            for uniform in (0.05, 0.35, 0.65, 0.95):
                together = self.tokens(rows, [params] * 3, [uniform] * 3)
                alone = [self.tokens(row[None], [params], [uniform])[0] for row in rows]
                for index, (a, b) in enumerate(zip(together, alone, strict=True)):
                    if a != b:
                        setting = "".join(f"{name} {value:g} and " for name, value in given.items())
                        raise CheckFailed(
                            f"with {setting}uniform {uniform}, row {index} of three got token {a}, and alone {b}"
                        )

    def _inputs(self) -> None:
        params = [SamplingParams(temperature=2, top_k=3, top_p=0.6, min_p=0.1), SamplingParams(temperature=0)]
        logits, metadata = logits_of(PROBABILITIES).repeat(2, 1), SamplingMetadata.build(params, [0.1, 0.9])
        inputs = {"logits": logits} | {f"metadata.{name}": tensor for name, tensor in vars(metadata).items()}
        before = {name: tensor.clone() for name, tensor in inputs.items()}
        self.sampler().sample(logits, metadata)
        for name, tensor in inputs.items():
            if not torch.equal(tensor, before[name]):
                raise CheckFailed(
                    f"the call changed {name}: {_rounded(before[name])} before, {_rounded(tensor)} after it"
                )


def _likeliest(k: int) -> list[int]:
    """The k most likely tokens of PROBABILITIES."""
    return sorted(range(len(PROBABILITIES)), key=lambda token: -PROBABILITIES[token])[:k]


def _rounded(tensor: Tensor) -> list[float]:
    return [round(value, 2) for value in tensor.reshape(-1).tolist()]
