"""What a tokenizer is made of on disk: Hugging Face's files in a model's folder, read and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from minillm.errors import UnsupportedModelError


@dataclass(frozen=True)
class TokenizerParts:
    """What a checkpoint says about its tokenizer.

    Attributes:
        backend: vocabulary, merges, pre-tokenizer, decoder, and what goes before and after a text.
        config: as in tokenizer_config.json; its bos_token, eos_token and so on count, but not its
            add_bos_token: like transformers 5, minillm believes what tokenizer.json says about that.
        chat_templates: Jinja source by name: "default", and perhaps "tool_use".
        eos_token_ids: ids that end a generation, besides config's eos_token.
    """

    backend: Backend
    config: Mapping[str, Any]
    chat_templates: Mapping[str, str] = field(default_factory=dict)
    eos_token_ids: frozenset[int] = frozenset()


def read_folder(folder: Path) -> TokenizerParts:
    """Reads tokenizer.json and, where they exist, the files beside it.

    Raises:
        UnsupportedModelError: if tokenizer.json is missing or a file can't be read.
    """
    try:
        backend = Backend.from_str((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedModelError(
            f"{folder} has no tokenizer.json. Load the model with transformers' AutoTokenizer once and call "
            "save_pretrained: that writes the file."
        ) from None
    except Exception as error:  # the library raises bare Exception for whatever it doesn't understand
        raise UnsupportedModelError(f"{folder / 'tokenizer.json'} can't be read: {error}") from error
    # Older checkpoints name their special tokens in a file of their own.
    config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    templates = _chat_templates(config.pop("chat_template", None), folder)
    eos = _read_json(folder / "generation_config.json").get("eos_token_id")
    eos_token_ids = [] if eos is None else [eos] if isinstance(eos, int) else eos
    return TokenizerParts(backend, config, templates, frozenset(eos_token_ids))


def write_folder(parts: TokenizerParts, folder: Path) -> None:
    """Writes the files that `read_folder` and transformers' AutoTokenizer read; makes the folder if need
    be."""
    folder.mkdir(parents=True, exist_ok=True)
    parts.backend.save(str(folder / "tokenizer.json"))
    # The class that takes tokenizer.json as it is; the named ones rebuild parts of it.
    defaults = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    _write_json(folder / "tokenizer_config.json", defaults | dict(parts.config))
    _write_json(folder / "generation_config.json", {"eos_token_id": sorted(parts.eos_token_ids)})
    for name, source in parts.chat_templates.items():
        file = "chat_template.jinja" if name == "default" else f"additional_chat_templates/{name}.jinja"
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(source, encoding="utf-8")


def token_text(token: str | Mapping[str, Any]) -> str:
    """A token as tokenizer_config.json writes it: a string, or an object with "content"."""
    return token if isinstance(token, str) else str(token["content"])


def _chat_templates(configured: str | list[dict[str, str]] | None, folder: Path) -> dict[str, str]:
    """Templates by name. Files win over tokenizer_config.json, as in transformers."""
    templates = {"default": configured} if isinstance(configured, str) else {}
    if isinstance(configured, list):
        templates = {entry["name"]: entry["template"] for entry in configured}
    files = sorted(folder.glob("additional_chat_templates/*.jinja"))
    templates |= {file.stem: file.read_text(encoding="utf-8") for file in files}
    if (folder / "chat_template.jinja").exists():
        templates["default"] = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    return templates


def _read_json(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnsupportedModelError(f"{file} isn't valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UnsupportedModelError(f"{file} should hold a JSON object, not a {type(content).__name__}.")
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
