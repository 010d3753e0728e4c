"""Text: the tokenizer with its chat template, the incremental detokenizer, stop strings."""

from minillm.text.detokenizer import Detokenizer
from minillm.text.stop import StopStrings
from minillm.text.tiny import tiny_tokenizer
from minillm.text.tokenizer import Tokenizer

__all__ = ["Detokenizer", "StopStrings", "Tokenizer", "tiny_tokenizer"]
