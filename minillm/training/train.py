"""Training a LoRA adapter, in plain PyTorch: the whole of it, from a conversation to the file that is shipped.

The model's own weights stay as they are. Beside each of its matrix products lies a thin one, B·A with rank 16, and only
A and B learn (arXiv:2106.09685). B begins as zeros, so training begins at the model as it is. The loss counts the
assistant's tokens only: what the user and the sources say is to be read, not to be imitated.

What fine-tuning does here: it teaches a form (where a citation goes, how a call is written, what to say when nothing
fits) and a habit (look in the sources, not in the weights). What it can't do: it adds next to no knowledge, it doesn't
make a small model reason, and what is far from everything it saw in training comes out much as before.

Conversations that begin in the same way, such as eight questions about the same sources, are read as a tree: the trunk
once, then each branch, which sees the trunk and itself. That gives the gradients of eight separate conversations at
little more than the price of one; it's prefix caching, with a backward pass. And it shows the model what decides: the
same sources, another question, another answer.

The forward pass is the decoder's (`minillm.models.decoder`), written once more so that autograd can follow it: the
engine's adds to the residual stream in place, and its weights may be packed for kernels that have no backward pass.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillm.errors import MinillmError
from minillm.kernels.reference import rotate
from minillm.models.decoder import Decoder, DecoderLayer, Linear, RMSNorm
from minillm.models.lora import LoRAAdapter, LoRAFactors
from minillm.text import Tokenizer
from minillm.training.example import Example

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The matrix products of a layer that get an adapter: all of them."""
TOKENS_AT_ONCE = 1536
"""Of a step, as far as conversations allow; the gradients of the parts are added up."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides an adapter beside the data.

    Attributes:
        rank: columns of B and rows of A; an adapter's size grows with it.
        alpha: the product B·A is scaled by alpha / rank.
        learning_rate: the highest; it warms up, then falls along a cosine to a twentieth.
        num_steps: how often the adapter is changed.
        tokens_per_step: tokens of the conversations of one step, at most.
        warmup_steps: over which the learning rate rises.
        max_example_tokens: longer conversations are left out, and siblings beyond it.
        max_gradient: longer gradients are shortened to this norm.
        seed: of the data's order and of A's first values.
    """

    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 1e-3
    num_steps: int = 320
    tokens_per_step: int = 2048
    warmup_steps: int = 15
    max_example_tokens: int = 1024
    max_gradient: float = 1.0
    seed: int = 0

    def learning_rate_at(self, step: int) -> float:
        """Of the step with this number, from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        return self.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)


class LoRALinear(nn.Module):
    """A frozen product with a thin one beside it that learns: y = x·Wᵀ + scale · (x·Aᵀ)·Bᵀ."""

    def __init__(self, frozen: Linear, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        weight = frozen.weight
        if not isinstance(weight, Tensor):
            raise MinillmError("Weights that are quantized or packed can't be trained on; load the model without.")
        self.weight, self.bias, self.scale = weight.detach(), frozen.bias, scale
        bound = 1 / math.sqrt(weight.shape[1])
        first = torch.empty(rank, weight.shape[1]).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(first.to(weight.device))
        self.lora_B = nn.Parameter(torch.zeros(weight.shape[0], rank, device=weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """x: [n, in_features] → [n, out_features], in the dtype of the frozen weights."""
        thin = F.linear(F.linear(x, self.lora_A.to(x.dtype)), (self.lora_B * self.scale).to(x.dtype))
        return F.linear(x, self.weight, self.bias) + thin


class LoRADecoder(nn.Module):
    """A decoder whose layers' products have adapters; for training only."""

    def __init__(self, base: Decoder, recipe: Recipe) -> None:
        super().__init__()
        self.base = [base]  # in a list, so that its parameters aren't this module's
        generator = torch.Generator().manual_seed(recipe.seed)
        self.adapters = nn.ModuleDict()
        for index, layer in enumerate(base.layers):
            for name in TARGETS:
                block = "self_attn" if name in TARGETS[:4] else "mlp"
                frozen = getattr(getattr(layer, block), name)
                self.adapters[f"{index}-{name}"] = LoRALinear(
                    frozen, recipe.rank, recipe.alpha / recipe.rank, generator
                )

    def parts(self) -> Iterator[tuple[str, LoRALinear]]:
        """Each product's module path, such as "layers.0.self_attn.q_proj", and its adapter."""
        for key, part in self.adapters.items():
            index, name = key.split("-")
            block = "self_attn" if name in TARGETS[:4] else "mlp"
            yield f"layers.{index}.{block}.{name}", cast(LoRALinear, part)

    def forward(self, token_ids: Tensor, batch: Sequence[TokenizedExample]) -> Tensor:
        """The hidden states of several conversations that lie one after the other, each followed by its branches.

        Args:
            token_ids: [num_tokens] int64: those of each example's `conversations`, in their order.
            batch: what they are of.

        Returns:
            [num_tokens, hidden_size], normalized, ready for `logits`.
        """
        (base,) = self.base
        # A branch's tokens count on from the trunk, wherever they lie.
        positions = torch.cat(
            [torch.arange(each.shared, each.shared + len(each.token_ids)) for each in _conversations(batch)]
        )
        x = base.embed_tokens(token_ids)
        cos, sin = base.rotary(positions.to(token_ids.device), x.dtype)
        texts = [(item.num_tokens, _sees(item, token_ids.device)) for item in batch]
        for index, layer in enumerate(cast("Sequence[DecoderLayer]", base.layers)):
            x = x + self._attend(index, layer, _normalized(x, layer.input_layernorm), cos, sin, texts)
            x = x + self._feed_forward(index, _normalized(x, layer.post_attention_layernorm))
        return _normalized(x, base.norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, hidden_size] → [n, vocab_size] float32."""
        (base,) = self.base
        return F.linear(hidden, cast(Tensor, base.lm_head.weight)).float()

    def _attend(
        self,
        index: int,
        layer: DecoderLayer,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        texts: list[tuple[int, Tensor | None]],
    ) -> Tensor:
        attention = layer.self_attn
        q, k, v = (self.adapters[f"{index}-{name}"](x).unflatten(1, (-1, attention.head_dim)) for name in TARGETS[:3])
        if attention.q_norm is not None and attention.k_norm is not None:
            q, k = _normalized(q, attention.q_norm), _normalized(k, attention.k_norm)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        lengths = [length for length, _ in texts]
        pieces = zip(*(part.split(lengths) for part in (q, k, v)), (sees for _, sees in texts), strict=True)
        attended = torch.cat([_attention(*piece) for piece in pieces])
        return self.adapters[f"{index}-o_proj"](attended.flatten(1))

    def _feed_forward(self, index: int, x: Tensor) -> Tensor:
        gate, up = self.adapters[f"{index}-gate_proj"](x), self.adapters[f"{index}-up_proj"](x)
        return self.adapters[f"{index}-down_proj"](F.silu(gate) * up)


def _normalized(x: Tensor, norm: RMSNorm) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.eps)


def _attention(q: Tensor, k: Tensor, v: Tensor, sees: Tensor | None) -> Tensor:
    """Of one text; q, k, v: [num_tokens, heads, head_dim]; sees: [num_tokens, num_tokens] bool, None for causal."""
    # With a batch of one in front, PyTorch's CPU kernel doesn't build the whole table of scores.
    q, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, is_causal=sees is None, enable_gqa=True)
    return attended[0].transpose(0, 1)


@dataclass(frozen=True)
class TokenizedExample:
    """An example as token ids.

    Attributes:
        job: of the example.
        token_ids: the conversation; of a branch, what follows the tokens that it shares with the trunk.
        targets: the places in `token_ids` whose token is the assistant's, and so is to be learned; from 1.
        shared: of a branch, how many of the trunk's tokens come before its own.
        branches: what the example's siblings say after what they share with it.
    """

    job: str
    token_ids: list[int]
    targets: list[int]
    shared: int = 0
    branches: tuple[TokenizedExample, ...] = ()

    @property
    def num_tokens(self) -> int:
        """With the branches'."""
        return sum(len(each.token_ids) for each in self.conversations())

    def conversations(self) -> list[TokenizedExample]:
        """The example's own, then its branches."""
        return [self, *self.branches]

    def without_branches_beyond(self, num_tokens: int) -> TokenizedExample:
        """The same with only as many branches as fit; itself if it's longer than that without any."""
        branches, left = [], num_tokens - len(self.token_ids)
        for branch in self.branches:
            left -= len(branch.token_ids)
            if left >= 0:
                branches.append(branch)
        return replace(self, branches=tuple(branches))


def _sees(item: TokenizedExample, device: torch.device) -> Tensor | None:
    """Which token attends to which: [num_tokens, num_tokens] bool; None where it's all that come before it."""
    if not item.branches:
        return None
    sees = torch.ones(item.num_tokens, item.num_tokens, dtype=torch.bool, device=device).tril_()
    start = len(item.token_ids)
    for branch in item.branches:
        end = start + len(branch.token_ids)
        sees[start:end, branch.shared : start] = False  # neither the rest of the trunk nor other branches
        start = end
    return sees


def tokenize(example: Example, tokenizer: Tokenizer) -> TokenizedExample:
    """Writes an example as the model will see it, and marks what the assistant says, the end of its turn included.

    Raises:
        MinillmError: for an example without a turn of the assistant's, or a template that doesn't write a conversation
            as the beginning of a longer one.
    """
    trunk = _tokenize_one(example, tokenizer)
    siblings = [_tokenize_one(sibling, tokenizer) for sibling in example.siblings]
    return replace(trunk, branches=tuple(_as_branch(sibling, trunk) for sibling in siblings))


def _as_branch(sibling: TokenizedExample, trunk: TokenizedExample) -> TokenizedExample:
    """A conversation without the tokens that it shares with the trunk, which teaches those that are targets."""
    pairs = zip(sibling.token_ids, trunk.token_ids, strict=False)
    shared = next((place for place, (own, other) in enumerate(pairs) if own != other), len(trunk.token_ids))
    # The first token of a branch is no target, for what predicts it would lie in the trunk.
    targets = [target for target in sibling.targets if target >= shared]
    shared = min(shared, targets[0] - 1) if targets else shared
    if not targets or shared < 0:
        raise MinillmError("An example's sibling must say something else than the example itself.")
    return replace(
        sibling,
        token_ids=sibling.token_ids[shared:],
        targets=[target - shared for target in targets],
        shared=shared,
    )


def _tokenize_one(example: Example, tokenizer: Tokenizer) -> TokenizedExample:
    messages, tools = list(example.messages), example.tools
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns or turns[-1] != len(messages) - 1:
        raise MinillmError("An example to learn from must end with a turn of the assistant's.")
    whole = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=False)
    targets: list[int] = []
    for index in turns:
        before = tokenizer.apply_chat_template(messages[:index], tools=tools, add_generation_prompt=True)
        after = tokenizer.apply_chat_template(messages[: index + 1], tools=tools, add_generation_prompt=False)
        if whole[: len(before)] != before or whole[: len(after)] != after:
            raise MinillmError("This chat template writes earlier turns differently once others follow.")
        end = max(place for place in range(len(before), len(after)) if after[place] in tokenizer.eos_token_ids)
        targets += range(len(before), end + 1)
    return TokenizedExample(example.job, whole[: targets[-1] + 1], targets)


@dataclass
class Step:
    """What one step did.

    Attributes:
        number: from 1.
        loss: the mean negative log-likelihood of the assistant's tokens, in nats, before the step.
        loss_by_job: the same of each job that had an example in it.
        learning_rate: that it was taken with.
        num_tokens: read so far in all, prompts included.
        num_examples: drawn so far in all, those that were too long included, and without siblings.
        seconds: that the step took.
    """

    number: int
    loss: float
    loss_by_job: dict[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    num_tokens: int = 0
    num_examples: int = 0
    seconds: float = 0.0


class Trainer:
    """Teaches a model by examples.

    trainer = Trainer(model, tokenizer, course_examples, Recipe(num_steps=100))
    for step in trainer.run():
        print(step.number, step.loss)
    save_adapter(folder, trainer.adapter("mine", "smollm2-135m"))
    """

    def __init__(
        self,
        base: Decoder,
        tokenizer: Tokenizer,
        examples: Callable[[int], Iterator[Example]],
        recipe: Recipe = Recipe(),
    ) -> None:
        """`examples` yields what to learn from, without end, the same for the same seed."""
        self.model = LoRADecoder(base, recipe)
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.device = base.embed_tokens.weight.device
        # The fused one does all of the small matrices in one go.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0, weight_decay=0.0, fused=True)
        self.steps: list[Step] = []
        self._examples = examples

    def run(self) -> Iterator[Step]:
        """Takes the steps that are left, one each time that the next is asked for."""
        before = self.steps[-1].num_examples if self.steps else 0
        examples = self._examples(self.recipe.seed)
        for _ in range(before):
            next(examples)
        batches = self._batches(examples, before)
        while len(self.steps) < self.recipe.num_steps:
            yield self._take_step(*next(batches))

    def _batches(self, examples: Iterator[Example], drawn: int) -> Iterator[tuple[list[TokenizedExample], int]]:
        """Groups of about `tokens_per_step` tokens, each with the number of examples drawn up to its end."""
        batch: list[TokenizedExample] = []
        for example in examples:
            item = tokenize(example, self.tokenizer).without_branches_beyond(self.recipe.max_example_tokens)
            if item.num_tokens > self.recipe.max_example_tokens:
                drawn += 1
                continue
            if batch and _num_tokens(batch) + item.num_tokens > self.recipe.tokens_per_step:
                yield batch, drawn
                batch = []
            batch.append(item)
            drawn += 1

    def _take_step(self, batch: list[TokenizedExample], drawn: int) -> Step:
        start = time.perf_counter()
        number = len(self.steps) + 1
        learning_rate = self.recipe.learning_rate_at(number - 1)
        losses: list[tuple[str, float, int]] = []
        total = sum(map(_weight, _conversations(batch)))
        self.optimizer.zero_grad(set_to_none=True)  # of a step that was interrupted, if there was one
        for part in _parts(batch):
            per_example = example_losses(self.model, part, self.device)
            taught = _conversations(part)
            weights = torch.tensor([_weight(each) / total for each in taught], device=self.device)
            (per_example * weights).sum().backward()
            losses += [
                (each.job, loss, len(each.targets)) for each, loss in zip(taught, per_example.tolist(), strict=True)
            ]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_gradient)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        before = self.steps[-1].num_tokens if self.steps else 0
        jobs = sorted({job for job, _, _ in losses})
        step = Step(
            number=number,
            loss=_mean([(loss, count) for _, loss, count in losses]),
            loss_by_job={job: _mean([(loss, count) for each, loss, count in losses if each == job]) for job in jobs},
            learning_rate=learning_rate,
            num_tokens=before + _num_tokens(batch),
            num_examples=drawn,
            seconds=time.perf_counter() - start,
        )
        self.steps.append(step)
        return step

    def adapter(self, name: str, base_model: str) -> LoRAAdapter:
        """What has been learned so far, in the engine's form."""
        factors = {
            module: LoRAFactors(part.lora_A.detach().clone(), part.lora_B.detach().clone(), part.scale)
            for module, part in self.model.parts()
        }
        return LoRAAdapter(name=name, factors=factors, base_model=base_model)

    def begin_from(self, adapter: LoRAAdapter) -> None:
        """Begins with an adapter's factors instead of with none.

        Raises:
            MinillmError: for one of another rank or scale than the recipe's, or of other products than `TARGETS`.
        """
        parts = dict(self.model.parts())
        for path in parts.keys() | adapter.factors.keys():
            part, factors = parts.get(path), adapter.factors.get(path)
            if part is None or factors is None or factors.a.shape != part.lora_A.shape or factors.scale != part.scale:
                raise MinillmError(
                    f"Training can't begin from {adapter.name!r}: expected rank {self.recipe.rank}, alpha "
                    f"{self.recipe.alpha:g} and all of {', '.join(TARGETS)} in each layer, which {path} doesn't fit."
                )
            part.lora_A.data.copy_(factors.a)
            part.lora_B.data.copy_(factors.b)

    def save_checkpoint(self, path: Path) -> None:
        """Writes everything that `load_checkpoint` needs to go on; the file appears whole or not at all."""
        state = {
            "recipe": asdict(self.recipe),
            "steps": [asdict(step) for step in self.steps],
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        unfinished = path.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def load_checkpoint(self, path: Path) -> None:
        """Goes on where a checkpoint was written: the steps that follow are those that would have followed.

        Raises:
            MinillmError: for a file that isn't a checkpoint, or one of another recipe or model.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            recipe, steps = state["recipe"], [Step(**step) for step in state["steps"]]
        except Exception as error:  # torch.load raises whatever unpickling does
            raise MinillmError(
                f"{path} isn't a checkpoint of a training ({error}). Remove it to begin anew."
            ) from error
        if recipe != asdict(self.recipe):
            other = ", ".join(
                f"{key} {recipe.get(key)}" for key, value in asdict(self.recipe).items() if recipe.get(key) != value
            )
            raise MinillmError(f"{path} is of a training with another recipe ({other}). Use it, or remove the file.")
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise MinillmError(f"{path} is of a training of another model. Remove it to begin anew.") from error
        self.steps = steps


def example_losses(model: LoRADecoder, batch: Sequence[TokenizedExample], device: torch.device) -> Tensor:
    """The mean loss of each conversation's targets, in nats, to go backward from.

    Returns:
        [number of conversations] float32, each followed by its branches.
    """
    taught = _conversations(batch)
    token_ids = torch.tensor([token for each in taught for token in each.token_ids], device=device)
    starts = accumulate((len(each.token_ids) for each in taught), initial=0)
    rows = torch.tensor(
        [start + target for start, each in zip(starts, taught, strict=False) for target in each.targets], device=device
    )
    # The vocabulary is large and most tokens are read only, so logits are made for the targets alone.
    logits = model.logits(model(token_ids, batch)[rows - 1])
    losses = F.cross_entropy(logits, token_ids[rows], reduction="none")
    return torch.stack([each.mean() for each in losses.split([len(each.targets) for each in taught])])


def _conversations(batch: Sequence[TokenizedExample]) -> list[TokenizedExample]:
    """Those of several examples, in the order in which they lie in a batch."""
    return [each for item in batch for each in item.conversations()]


def _weight(item: TokenizedExample) -> float:
    """How much a conversation counts: the root of its number of targets.

    With every token counting the same, long answers of JSON would drown the answers of three words; with every
    conversation the same, the tokens of long ones would hardly count.
    """
    return math.sqrt(len(item.targets))


def _parts(batch: Sequence[TokenizedExample]) -> Iterator[list[TokenizedExample]]:
    """A step's conversations in parts whose activations fit in little memory (about 0.7 MB a token)."""
    part: list[TokenizedExample] = []
    for item in batch:
        if part and _num_tokens(part) + item.num_tokens > TOKENS_AT_ONCE:
            yield part
            part = []
        part.append(item)
    yield part


def _num_tokens(batch: Sequence[TokenizedExample]) -> int:
    return sum(item.num_tokens for item in batch)


def _mean(losses: Sequence[tuple[float, int]]) -> float:
    """Of losses, each with the number of tokens that it's the mean of."""
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32, which not every CPU does; found out by trying."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x, weight = torch.ones(512, 576, dtype=dtype, device=device), torch.ones(1536, 576, dtype=dtype, device=device)
        for _ in range(4):  # the first prepares the kernel; the last one's time is taken
            start = time.perf_counter()
            F.linear(x, weight).sum().item()
            seconds[dtype] = time.perf_counter() - start
    return min(seconds, key=lambda dtype: seconds[dtype])
