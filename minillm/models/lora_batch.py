"""Adapters that stay beside their model: requests with different ones share the batch, the model and its memory.

The frozen product is computed for all tokens at once, as ever. Then each adapter's thin products are, for the tokens of
its own requests. These have to lie side by side, which is what `ForwardBatch.build` sees to. (Punica, arXiv:2310.18547,
and S-LoRA, arXiv:2311.03285, do the same with one kernel for all groups.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from minillm.kernels import Kernels, QuantizedTensor
from minillm.models.lora import LoRAAdapter, LoRAFactors

if TYPE_CHECKING:
    from minillm.models.decoder import Decoder, FusedLinear, Linear


@dataclass(frozen=True, eq=False)
class ThinProduct:
    """What an adapter computes beside one of the decoder's products, which may be several fused into one.

    Attributes:
        a: [rank, in_features].
        b: [out_features, rank], scaled.
    """

    a: Tensor | QuantizedTensor
    b: Tensor | QuantizedTensor


ThinProducts: TypeAlias = Mapping[nn.Module, ThinProduct]
"""An adapter, ready to be computed: by the decoder's product (a `Linear` or a `FusedLinear`) that it's added to."""


@dataclass(frozen=True)
class LoRABatch:
    """The adapters of one forward pass.

    Attributes:
        groups: (first row, end, adapter) of each stretch of tokens with the same adapter. Rows outside have none.
    """

    groups: Sequence[tuple[int, int, ThinProducts]]

    def add(self, product: nn.Module, x: Tensor, out: Tensor, kernels: Kernels) -> Tensor:
        """Adds what the adapters compute to a product's result, in place.

        Args:
            product: whose result it is.
            x: [num_tokens, in_features], what went in.
            out: [num_tokens, out_features], what came out.
            kernels: those of the decoder; a row's bits depend on its neighbours no more than they do there.

        Returns:
            `out`.
        """
        for begin, end, adapter in self.groups:
            if (thin := adapter.get(product)) is not None:
                out[begin:end].add_(kernels.linear(kernels.linear(x[begin:end], thin.a, None), thin.b, None))
        return out


@torch.no_grad()
def prepare_adapter(
    adapter: LoRAAdapter, model: Decoder, convert: Callable[[Tensor], QuantizedTensor] | None = None
) -> ThinProducts:
    """Puts an adapter's factors into the model's dtype, onto its device, and next to those that are computed together.

    Args:
        adapter: for this model.
        model: quantized or not; it isn't changed.
        convert: packs the factors for the kernels.

    Raises:
        UnsupportedModelError: if the adapter is for another model.
    """
    adapter.check(model.config)
    paths = {module: path for path, module in model.named_modules()}
    prepared: dict[nn.Module, ThinProduct] = {}
    for product in model.products():
        parts = [adapter.factors.get(paths[part]) for part in product.parts]
        if any(parts):
            pair = [tensor.to(model.device, model.dtype) for tensor in _stack(parts, _out_features(product))]
            prepared[product] = ThinProduct(*(pair if convert is None else map(convert, pair)))
    return prepared


def _stack(parts: Sequence[LoRAFactors | None], out_features: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Makes one pair of factors of those of fused products.

    The A's lie one below the other, [sum of ranks, in]; the B's are blocks on a diagonal, [sum of outs, sum of ranks],
    since no part of the output sees another's ranks. A part that has none has rows of zeros.
    """
    a = torch.cat([each.a.float() for each in parts if each is not None])
    b = torch.zeros(sum(out_features), a.shape[0])
    row = column = 0
    for each, num_rows in zip(parts, out_features, strict=True):
        if each is not None:
            b[row : row + num_rows, column : column + each.rank] = each.b.float() * each.scale
            column += each.rank
        row += num_rows
    return a, b


def _out_features(product: Linear | FusedLinear) -> list[int]:
    return [part.out_features for part in product.parts]
