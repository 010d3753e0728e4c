"""What a model is made of: one `ModelConfig`, read from Hugging Face's config.json or from GGUF metadata.

Everything that the decoder can't do is refused here, by name, before a single weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from minillm.errors import UnsupportedModelError, WeightsError

Architecture = Literal["llama", "qwen2", "qwen3"]

# Hugging Face's class names and llama.cpp's architecture names. SmolLM2 is a Llama.
HF_ARCHITECTURES: dict[str, Architecture] = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
GGUF_ARCHITECTURES: dict[str, Architecture] = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}

ROPE_TYPES = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding (arXiv:2104.09864) and the way it's stretched to longer contexts.

    `type` is "default", "linear" (positions divided by `factor`), "llama3" (low frequencies slowed down,
    high ones kept) or "yarn" (arXiv:2309.00071). The other fields have the meaning of the same names in
    Hugging Face's `rope_parameters`. `frequency_divisors` are GGUF's precomputed divisors
    ([head_dim / 2], the tensor `rope_freqs.weight`); the rule, if there is one, comes on top.
    """

    theta: float = 10000.0
    type: str = "default"
    factor: float = 1.0
    original_max_position: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    frequency_divisors: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        sound = self.theta > 1 and self.factor > 0 and self.original_max_position >= 0
        if not sound or (self.type == "yarn" and self.original_max_position == 0):
            raise WeightsError(
                f"The model's RoPE settings are broken: theta {self.theta}, factor {self.factor}, "
                f"original length {self.original_max_position}."
            )


_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "max_model_len",
)


@contextmanager
def _understanding(source: str) -> Iterator[None]:
    """Turns what nonsense in a configuration leads to, such as text in place of a number, into one clear error."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{source} is broken: it can't be understood as a model's shape ({error}).") from error


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder-only transformer of the Llama family.

    `num_kv_heads` < `num_heads` is grouped-query attention (arXiv:2305.13245): each key/value head serves
    `num_heads / num_kv_heads` query heads.
    """

    architecture: Architecture
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_model_len: int
    rms_norm_eps: float = 1e-6
    rope: RopeConfig = field(default_factory=RopeConfig)
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    attention_output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False

    def __post_init__(self) -> None:
        for name in _SIZES:
            if not 0 < getattr(self, name) < 2**31:
                raise WeightsError(f"The model's configuration is broken: it gives {getattr(self, name)} as {name}.")
        if self.head_dim % 2 or self.head_dim > 2**16:
            raise WeightsError(f"The model's configuration is broken: a head can't have {self.head_dim} dimensions.")
        if self.num_heads % self.num_kv_heads:
            raise UnsupportedModelError(
                f"The model has {self.num_heads} query heads and {self.num_kv_heads} key/value heads; "
                "the first must be a multiple of the second. The model's configuration is broken."
            )

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token adds to a KV cache of 2-byte numbers; twice that in float32."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * 2

    @classmethod
    @_understanding("config.json")
    def from_hf(cls, config: Mapping[str, Any]) -> ModelConfig:
        """Reads the content of a config.json.

        Raises:
            UnsupportedModelError: for an architecture or an option that the decoder doesn't implement.
            WeightsError: for values that make no sense.
        """
        architecture = _hf_architecture(config)
        _refuse_unsupported_options(config)
        num_heads = _required(config, "num_attention_heads")
        hidden_size = _required(config, "hidden_size")
        attention_bias = bool(config.get("attention_bias", False))
        max_model_len = int(config.get("max_position_embeddings") or 2048)
        return cls(
            architecture=architecture,
            vocab_size=_required(config, "vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=_required(config, "intermediate_size"),
            num_layers=_required(config, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=config.get("num_key_value_heads") or num_heads,
            head_dim=config.get("head_dim") or hidden_size // num_heads,
            max_model_len=max_model_len,
            rms_norm_eps=config.get("rms_norm_eps", 1e-6),
            rope=_rope_from_hf(config, max_model_len),
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            # Qwen2 has biases on Q, K and V and none on the output, whatever its config.json says.
            qkv_bias=architecture == "qwen2" or attention_bias,
            attention_output_bias=architecture != "qwen2" and attention_bias,
            mlp_bias=architecture == "llama" and bool(config.get("mlp_bias", False)),
            qk_norm=architecture == "qwen3",
        )

    @classmethod
    @_understanding("The GGUF file's metadata")
    def from_gguf(cls, metadata: Mapping[str, Any], tensor_names: frozenset[str]) -> ModelConfig:
        """Reads GGUF metadata. Which biases and norms there are is seen from the tensors' names.

        Raises:
            UnsupportedModelError: for an architecture that the decoder doesn't implement.
            WeightsError: for values that make no sense.
        """
        name = str(metadata.get("general.architecture"))
        if name not in GGUF_ARCHITECTURES:
            raise UnsupportedModelError(_refusal(name, tuple(GGUF_ARCHITECTURES)))

        def get(key: str, default: Any = None) -> Any:
            value = metadata.get(f"{name}.{key}", default)
            if value is None:
                raise UnsupportedModelError(
                    f"The GGUF file has no {name}.{key}, which the model needs. Fetch the file again, "
                    "or convert it with a current llama.cpp."
                )
            if isinstance(value, list):  # llama.cpp can give each layer its own
                if len(set(value)) != 1:
                    raise UnsupportedModelError(
                        f"The layers differ in {name}.{key} ({value}); minillm needs them alike."
                    )
                return value[0]
            return value

        if get("expert_count", 0):
            raise UnsupportedModelError(
                f"This {name} GGUF is a mixture of experts ({get('expert_count')} experts); minillm runs dense models."
            )
        if get("attention.sliding_window", 0):
            raise UnsupportedModelError("The model uses sliding-window attention, which minillm does not implement.")
        num_heads = int(get("attention.head_count"))
        hidden_size = int(get("embedding_length"))
        head_dim = int(get("attention.key_length", hidden_size // num_heads))
        if int(get("rope.dimension_count", head_dim)) != head_dim:
            raise UnsupportedModelError("RoPE on only a part of each head (rope.dimension_count) is not supported.")
        vocab_size = metadata.get(f"{name}.vocab_size") or len(metadata.get("tokenizer.ggml.tokens", ()))
        return cls(
            architecture=GGUF_ARCHITECTURES[name],
            vocab_size=int(vocab_size),
            hidden_size=hidden_size,
            intermediate_size=int(get("feed_forward_length")),
            num_layers=int(get("block_count")),
            num_heads=num_heads,
            num_kv_heads=int(get("attention.head_count_kv", num_heads)),
            head_dim=head_dim,
            max_model_len=int(get("context_length", 2048)),
            rms_norm_eps=float(get("attention.layer_norm_rms_epsilon", 1e-6)),
            rope=_rope_from_gguf(metadata, name),
            tie_word_embeddings="output.weight" not in tensor_names,
            qkv_bias="blk.0.attn_q.bias" in tensor_names,
            attention_output_bias="blk.0.attn_output.bias" in tensor_names,
            mlp_bias="blk.0.ffn_up.bias" in tensor_names,
            qk_norm="blk.0.attn_q_norm.weight" in tensor_names,
        )


def _refusal(found: str, known: tuple[str, ...]) -> str:
    return f"The architecture {found!r} is not supported; minillm runs {', '.join(known)} (SmolLM2 is a Llama)."


def _hf_architecture(config: Mapping[str, Any]) -> Architecture:
    names = config.get("architectures") or []
    for name in names:
        if name in HF_ARCHITECTURES:
            return HF_ARCHITECTURES[name]
    found = names[0] if names else str(config.get("model_type") or "(none named)")
    raise UnsupportedModelError(_refusal(found, tuple(HF_ARCHITECTURES)))


def _required(config: Mapping[str, Any], key: str) -> int:
    if config.get(key) is None:
        raise UnsupportedModelError(f'config.json has no "{key}", which every {config.get("model_type")} model needs.')
    return int(config[key])


def _refuse_unsupported_options(config: Mapping[str, Any]) -> None:
    """Options that would change the logits if they were ignored."""
    if (activation := config.get("hidden_act", "silu")) not in ("silu", "swish"):
        raise UnsupportedModelError(f"The activation {activation!r} is not supported; minillm's decoder has SiLU.")
    if quantization := config.get("quantization_config"):
        method = quantization.get("quant_method", "unknown")
        raise UnsupportedModelError(
            f"The checkpoint is quantized with {method!r}, which minillm can't read. "
            "Take the unquantized checkpoint or a GGUF file."
        )
    if config.get("use_sliding_window"):
        raise UnsupportedModelError("The model uses sliding-window attention, which minillm does not implement.")


def _rope_from_hf(config: Mapping[str, Any], max_model_len: int) -> RopeConfig:
    # transformers 5 writes `rope_parameters` (theta included), earlier versions `rope_scaling` and `rope_theta`.
    # Where both are there, somebody added `rope_scaling` by hand, as model cards advise, so it wins.
    added = config.get("rope_scaling") or {}
    scaling = {**(config.get("rope_parameters") or {}), **added}
    rope_type = next(
        (part[key] for part in (added, scaling) for key in ("rope_type", "type") if part.get(key)), "default"
    )
    if rope_type not in ROPE_TYPES:
        why = " It changes keys that are already in the cache at every new token." if rope_type == "dynamic" else ""
        raise UnsupportedModelError(
            f"The RoPE scaling {rope_type!r} is not supported; minillm has {', '.join(ROPE_TYPES)}.{why}"
        )
    if any(isinstance(value, Mapping) for value in scaling.values()):
        raise UnsupportedModelError("RoPE settings that differ from layer to layer are not supported.")
    if scaling.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        raise UnsupportedModelError("RoPE on only a part of each head (partial_rotary_factor) is not supported.")
    theta = scaling.get("rope_theta") or config.get("rope_theta") or 10000.0
    original = config.get("original_max_position_embeddings") or scaling.get("original_max_position_embeddings")
    original = int(original or max_model_len)
    factor = scaling.get("factor") or (max_model_len / original if rope_type == "yarn" else None)
    if rope_type != "default" and factor is None:
        raise WeightsError(f"config.json has the RoPE scaling {rope_type!r} without its factor.")
    optional = {
        key: scaling[key]
        for key in (
            "low_freq_factor",
            "high_freq_factor",
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
            "truncate",
        )
        if scaling.get(key) is not None
    }
    return RopeConfig(
        theta=float(theta), type=rope_type, factor=float(factor or 1.0), original_max_position=original, **optional
    )


def _rope_from_gguf(metadata: Mapping[str, Any], name: str) -> RopeConfig:
    def get(key: str, default: Any) -> Any:
        return metadata.get(f"{name}.rope.{key}", default)

    # As in llama.cpp: a factor without a type means linear scaling, and files from 2023 call it scale_linear.
    rope_type = str(get("scaling.type", "linear"))
    factor = float(get("scaling.factor", 0.0) or get("scale_linear", 0.0) or 1.0)
    if rope_type == "none" or (rope_type == "linear" and factor == 1):
        rope_type = "default"
    if rope_type not in ROPE_TYPES:
        raise UnsupportedModelError(
            f"The RoPE scaling {rope_type!r} is not supported; minillm has {', '.join(ROPE_TYPES)}."
        )
    for key, usual in (
        ("scaling.attn_factor", 1.0),
        ("scaling.yarn_attn_factor", 1.0),
        ("scaling.yarn_ext_factor", 1.0),
        ("scaling.yarn_log_multiplier", 0.0),
    ):
        if get(key, usual) != usual:
            raise UnsupportedModelError(f"GGUF's rope.{key} is not supported; minillm derives it from the factor.")
    context_length = metadata.get(f"{name}.context_length", 2048)
    return RopeConfig(
        theta=float(get("freq_base", 10000.0)),
        type=rope_type,
        factor=factor,
        original_max_position=int(get("scaling.original_context_length", context_length)),
        beta_fast=float(get("scaling.yarn_beta_fast", 32.0)),
        beta_slow=float(get("scaling.yarn_beta_slow", 1.0)),
    )
