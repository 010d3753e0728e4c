"""Structured output: grammars that a text has to follow, and the masks that make it do so."""

from minillm.structured.compiler import GrammarCompiler, Matcher, mask_logits
from minillm.structured.grammar import Grammar

__all__ = ["Grammar", "GrammarCompiler", "Matcher", "mask_logits"]
