"""The tokenizer of `tiny-random`: a real byte-level BPE of 512 tokens, trained in memory in milliseconds."""

from __future__ import annotations

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from minillm.text.checkpoint import TokenizerParts
from minillm.text.tokenizer import Tokenizer

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCAB_SIZE = 512

CHATML_TEMPLATE = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}"""

_TRAINING_TEXT = """\
A language model reads a text as a sequence of tokens and gives every token of its vocabulary a score. The
scores become probabilities, one token is drawn, it is added to the text, and the model reads on. That loop
is all there is to generation: the rest is about doing it fast, for many people at once, without computing
anything twice.

The model never sees letters. A tokenizer has cut the text into pieces first, and it learned the pieces from
other texts: it began with single bytes and then, again and again, joined the two neighbors that occur
together most often. Common words end up as one token, rare words as several, and whatever is left can still
be written byte by byte. So there is no text that the tokenizer can't read, and no token that the model
can't write.

When the model computes the next token it looks back at all the tokens before it. What it needs of them are
their keys and values, and those don't change, so they are kept in a cache. The cache grows by one entry
with each token. It is cut into blocks of equal size, and a table says which block holds which part of a
request. If two requests begin with the same text, they can share the blocks of that text. If memory runs
out, the scheduler takes blocks away from the request that came last, and computes them again later.

def generate(model, tokens, max_tokens):
    for step in range(max_tokens):
        logits = model(tokens)
        token = sample(logits[-1])
        if token == end:
            return tokens
        tokens.append(token)
    return tokens

What is the capital of France? The capital of France is Paris. How are you? I am well, thank you, and you?
Please write a short story about a cat and a dog. Once upon a time there was a cat that lived in a house
with a dog. The cat would sleep all day, and the dog would wait for the cat. One day the dog asked: what do
you do all night? I read, said the cat. I read one word, then the next word, and then I think about which
word could come after that.
"""


def tiny_tokenizer() -> Tokenizer:
    """Trains the tokenizer; every call gives the same one.

    Returns:
        512 tokens: three special ones (ids 0 to 2), 256 bytes, and merges learned from the text in this
        module. Words are cut as SmolLM2 cuts them, and the chat template is ChatML.
    """
    backend = Backend(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_TRAINING_TEXT], trainer)
    end_of_text, im_start, im_end = SPECIAL_TOKENS
    config = {"bos_token": im_start, "eos_token": im_end, "unk_token": end_of_text, "pad_token": im_end}
    return Tokenizer(TokenizerParts(backend, config, {"default": CHATML_TEMPLATE}))
