"""The same requests through transformers: one after the other, in padded batches, and by continuous batching."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

import torch

from minillm.bench.measure import Progress, synchronize
from minillm.bench.workloads import BenchRequest, Part
from minillm.engine.loading import load_model_and_tokenizer
from minillm.errors import MinillmError
from minillm.models import Decoder
from minillm.weights import resolve, split_adapter

Run = Callable[[Sequence[BenchRequest]], tuple[list[list[int]], float]]
"""Runs requests; returns each one's tokens, and the seconds that it took."""
PAGE_SIZE = 256
FEW = 8
"""Requests that are enough to know the speed of one after the other."""


@dataclass(frozen=True)
class StrategyResult:
    """One way to run a part.

    Attributes:
        strategy: its name.
        num_requests: how many it ran, which is fewer than all only one after the other.
        output_tokens: what was asked for; tokens generated beyond that, as padded batches do, don't count.
        seconds: for all of them.
        outputs: the generated tokens of each request that was run.
    """

    strategy: str
    num_requests: int
    output_tokens: int
    seconds: float
    outputs: list[list[int]]

    @property
    def tokens_per_second(self) -> float:
        """Output tokens over time."""
        return self.output_tokens / self.seconds


@dataclass(frozen=True)
class BaselineResult:
    """A part through transformers.

    Attributes:
        strategies: all that ran, the fastest first.
        failed: why the others didn't, by name.
    """

    strategies: list[StrategyResult]
    failed: dict[str, str]

    def to_json(self, ours: Sequence[Sequence[int]]) -> dict[str, Any]:
        """As plain data, with how far its tokens are those of `ours`."""
        best = self.strategies[0]
        pairs = [
            (mine, theirs)
            for request, output in zip(ours, best.outputs, strict=False)
            for mine, theirs in zip(request, output, strict=True)
        ]
        strategies = [{k: v for k, v in asdict(each).items() if k != "outputs"} for each in self.strategies]
        for strategy, each in zip(strategies, self.strategies, strict=True):
            strategy["tokens_per_second"] = each.tokens_per_second
        return {
            "strategy": best.strategy,
            "tokens_per_second": best.tokens_per_second,
            "same_tokens": sum(mine == theirs for mine, theirs in pairs) / len(pairs),
            "strategies": strategies,
            "failed": self.failed,
        }


class Transformers:
    """A model in transformers, with the weights that minillm has."""

    def __init__(self, model: str, dtype: torch.dtype, device: torch.device) -> None:
        """Loads it.

        Raises:
            MinillmError: if transformers isn't installed, or knows no such model.
        """
        check_installed()
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.dtype, self.device = dtype, device
        self.version = version("transformers")
        self.model = _load(model, dtype, device).to(device).eval()
        # Nothing ends an output but its length.
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0

    def run(self, part: Part, progress: Progress = lambda _: None) -> BaselineResult:
        """Runs a part in every way that makes sense for it.

        Raises:
            MinillmError: if no way works.
        """
        self._generate(part.requests[:1], [[1, 2, 3]], 2)  # warms up
        done: list[StrategyResult] = []
        failed: dict[str, str] = {}
        for name, (requests, run) in self._strategies(part).items():
            progress(f"transformers, {part.name}: {name}, {sum(each.max_tokens for each in requests)} tokens")
            try:
                outputs, seconds = run(requests)
            except Exception as error:  # each way of transformers has machines that it doesn't run on
                failed[name] = f"{type(error).__name__}: {error}"
                continue
            wanted = sum(each.max_tokens for each in requests)
            done.append(StrategyResult(name, len(requests), wanted, seconds, outputs))
        if not done:
            raise MinillmError(f"transformers can't run this workload here: {failed}.")
        return BaselineResult(sorted(done, key=lambda each: -each.tokens_per_second), failed)

    def _strategies(self, part: Part) -> dict[str, tuple[Sequence[BenchRequest], Run]]:
        requests = part.requests
        found: dict[str, tuple[Sequence[BenchRequest], Run]] = {
            "one after the other": (requests[:FEW], partial(self._padded, size=1))
        }
        if len(requests) > 1 and not part.one_at_a_time:
            for size in sorted({min(16, len(requests)), min(64, len(requests))}):
                found[f"padded batches of {size}"] = (requests, partial(self._padded, size=size))
            found["continuous batching"] = (requests, self._continuous)
        return found

    def _padded(self, requests: Sequence[BenchRequest], size: int) -> tuple[list[list[int]], float]:
        """Batches of requests with outputs of similar length, which waste the least."""
        synchronize(self.device)
        begin_at = time.perf_counter()
        outputs: list[list[int]] = [[] for _ in requests]
        order = sorted(range(len(requests)), key=lambda index: requests[index].max_tokens)
        for begin in range(0, len(order), size):
            batch = order[begin : begin + size]
            prompts = [list(requests[index].prompt_token_ids) for index in batch]
            longest = max(requests[index].max_tokens for index in batch)
            generated = self._generate([requests[index] for index in batch], prompts, longest)
            for index, output in zip(batch, generated, strict=True):
                outputs[index] = output
        synchronize(self.device)
        return outputs, time.perf_counter() - begin_at

    @torch.inference_mode()
    def _generate(
        self, requests: Sequence[BenchRequest], prompts: list[list[int]], max_new_tokens: int
    ) -> list[list[int]]:
        width = max(map(len, prompts))
        padding = [[0] * (width - len(prompt)) for prompt in prompts]
        ids = [zeros + prompt for zeros, prompt in zip(padding, prompts, strict=True)]
        mask = [zeros + [1] * len(prompt) for zeros, prompt in zip(padding, prompts, strict=True)]
        generated = self.model.generate(
            torch.tensor(ids, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            do_sample=False,
            max_new_tokens=max_new_tokens,
        )
        rows = generated[:, width:].tolist()
        return [row[: each.max_tokens] for each, row in zip(requests, rows, strict=True)]

    def _continuous(self, requests: Sequence[BenchRequest]) -> tuple[list[list[int]], float]:
        """What `generate_batch` does, with a length of its own for each request, and without the time to start up."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        pages = sum(-(-(len(each.prompt_token_ids) + each.max_tokens) // PAGE_SIZE) + 1 for each in requests)
        # Room for all requests at once. Without a number it would take most of the machine's memory.
        settings = ContinuousBatchingConfig(page_size=PAGE_SIZE, num_blocks=pages, max_batch_tokens=2048)
        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
        outputs: dict[str, list[int]] = {}
        with (
            _restored_attention(self.model),
            self.model.continuous_batching_context_manager(
                generation_config=config, continuous_batching_config=settings, block=True, timeout=5
            ) as manager,
        ):
            begin = time.perf_counter()
            for index, each in enumerate(requests):
                prompt = list(each.prompt_token_ids)
                manager.add_request(prompt, request_id=str(index), max_new_tokens=each.max_tokens, eos_token_id=-1)
            while len(outputs) < len(requests):
                result = manager.get_result(timeout=1)
                if result is None and not manager.is_running():
                    raise MinillmError("its worker ended before the requests did")
                if result is not None and result.is_finished():
                    if result.error:
                        raise MinillmError(str(result.error))
                    outputs[result.request_id] = result.generated_tokens
            seconds = time.perf_counter() - begin
        return [outputs[str(index)] for index in range(len(requests))], seconds


@contextlib.contextmanager
def _restored_attention(model: Any) -> Iterator[None]:
    """Continuous batching switches a model's attention to a paged one."""
    before = model.config._attn_implementation
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def check_installed() -> None:
    """Raises:
    MinillmError: if transformers isn't there.
    """
    if importlib.util.find_spec("transformers") is None:
        raise MinillmError("transformers isn't installed here. Run: pip install 'transformers>=5.0'")


def _load(name: str, dtype: torch.dtype, device: torch.device) -> Any:
    """From a folder with Hugging Face's own reader; otherwise with the numbers that minillm reads.

    transformers' GGUF reader wants a further package and gives the same numbers (tests/models/test_smollm2.py).
    """
    from transformers import AutoModelForCausalLM

    plain = name != "tiny-random" and split_adapter(name)[1] is None
    if plain and (resolve(name) / "config.json").exists():
        return AutoModelForCausalLM.from_pretrained(resolve(name), dtype=dtype, local_files_only=True)
    decoder, _ = load_model_and_tokenizer(name, dtype, torch.device("cpu"))
    return from_decoder(decoder)


def from_decoder(decoder: Decoder) -> Any:
    """A transformers model with the shape and the weights of this decoder.

    Raises:
        MinillmError: for RoPE settings that don't carry over.
    """
    import transformers

    shape = decoder.config
    if shape.rope.type != "default" or shape.rope.frequency_divisors is not None:
        raise MinillmError("Comparing needs a folder with a config.json for a model whose RoPE is scaled.")
    kind = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[shape.architecture]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_model_len,
        rms_norm_eps=shape.rms_norm_eps,
        tie_word_embeddings=shape.tie_word_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope.theta},
        **({"attention_bias": shape.qkv_bias, "mlp_bias": shape.mlp_bias} if kind == "Llama" else {}),
        dtype=decoder.dtype,
    )
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
    rotary = type(model.model.rotary_emb)(config)  # its table isn't a weight
    weights = {
        name if name.startswith("lm_head") else f"model.{name}": tensor for name, tensor in decoder.named_parameters()
    }
    missing = set(model.load_state_dict(weights, strict=False, assign=True).missing_keys)
    if not missing <= {"lm_head.weight"}:
        raise MinillmError(f"transformers wants weights that minillm doesn't have: {', '.join(sorted(missing))}.")
    model.model.rotary_emb = rotary
    model.tie_weights()
    return model
