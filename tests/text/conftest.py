"""Models and a corpus of strings that tokenizers get wrong, shared by the tests of `minillm.text`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from minillm.models.gguf import GGUFFile
from minillm.text import Tokenizer, tiny_tokenizer
from minillm.weights import resolve

# A machine with two busy cores is slow at times, which says nothing about the code.
settings.register_profile("minillm", deadline=None)
settings.load_profile("minillm")


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    return resolve("smollm2-135m", progress=False)


@pytest.fixture(scope="session")
def smollm2_metadata(smollm2_path: Path) -> dict[str, object]:
    return GGUFFile(smollm2_path).metadata


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Tokenizer:
    return Tokenizer.load(smollm2_path)


@pytest.fixture(scope="session")
def minilm_path() -> Path:
    return resolve("all-minilm-l6-v2", progress=False)


@pytest.fixture(scope="session")
def tiny() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def hard_strings() -> tuple[str, ...]:
    return HARD_STRINGS


HARD_STRINGS = (
    # Nothing, and spaces of every kind
    "",
    " ",
    "  ",
    "   a",
    "a   ",
    " a  b   c    d",
    "\t",
    "\t\ttabs\tbetween\t",
    "\n",
    "\n\n\n",
    "\r\n",
    "line one\r\nline two\r\n\r\nline four",
    "old\rmac\r",
    " \n \n ",
    "trailing spaces   \n   leading spaces",
    "\u00a0non-breaking\u00a0spaces\u00a0",
    "\u3000ideographic\u3000space",
    "\u2003em\u2009thin\u200ahair\u2028line\u2029paragraph\u0085next",
    "\u1680ogham\u202fnarrow\u205fmath",
    "\u200bzero\u200bwidth\ufeffbom",
    "\x0bvertical\x0cform feed\x1cfile\x1funit",
    "a\u00a0\u00a0b \u00a0 c",
    "    def f(x):\n        return x\n",
    "a" + " " * 200 + "b",
    "\n" * 70 + "end",
    # Control characters
    "\x00",
    "nul\x00in the middle",
    "\x01\x02\x03\x1b[31mred\x1b[0m",
    "\x7fdelete \x80\x9f c1",
    "\u202eright to left override\u202c",
    "\u2066isolate\u2069 \u00adsoft\u00adhyphen",
    # Digits in many scripts
    "0",
    "12345",
    "a  12",
    "a   3",
    "\n5\n\n5",
    "  2024 was   1 year\t7",
    "3.14159 1,000,000 1e-10 0x1F 0b101",
    "१२३ ٣٤٥ ೧೨ ๑๒๓ 一二三",
    "½ ¾ ² ³ ¹ ₀ Ⅷ ⅷ ① ⑳ 𝟘𝟙𝟚 ፩ ༳",
    "x²+y²=z² 10⁶",
    "H2O CO2 x1y2z3",
    "1st 2nd 3rd 4th 1990s '90s",
    "192.168.0.1:8080",
    "2024-02-29T23:59:60Z",
    "-1 - 1 +1 --1",
    # English and its apostrophes
    "Hello, world!",
    "don't can't won't I'll I've we're he'd I'm it's",
    "DON'T CAN'T I'LL",
    "don\u2019t it\u2019s \u2018quoted\u2019 \u201cdouble\u201d",
    "'s 't 're 've 'm 'll 'd",
    "rock'n'roll y'all'd've",
    "camelCaseAndPascalCase snake_case_name SCREAMING_CASE kebab-case",
    "ALL CAPS and tHe ReSt",
    "hyphen-ated — em – en … ellipsis...",
    "What?! No!! Yes!!1",
    "(parentheses) [brackets] {braces} <angles>",
    "$100 €50 £20 ¥1000 ₿1 ₹5 100% 50‰",
    "© ® ™ § ¶ † ‡ • ° ′ ″",
    "C:\\Users\\me\\file.txt /usr/local/bin ~/.bashrc",
    # Other European languages
    "naïve café résumé Zürich Ærøskøbing Łódź",
    "Straße STRASSE ß ẞ",
    "İstanbul ısı IŞIK",
    "Привет, мир! Ёж",
    "Γειά σου Κόσμε ΟΔΟΣ",
    "Ħello ŵorld ĳ ǆ ﬁ ﬂ ﬃ",
    "ﬀ K Å Ω ℌ ℝ",
    # The same text composed and decomposed
    "é",
    "e\u0301",
    "Zu\u0308rich nai\u0308ve",
    "a\u0323\u0302 \u1ead ạ\u0302",
    "\u0301 a leading combining mark",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033da\u0334\u0319\u0324\u031el\u0349\u032dg\u033a\u033bo\u0321",
    "\u1100\u1161\u11a8 각 \uac01",
    "が か\u3099 ｶﾞ",
    # CJK, Japanese, Korean
    "你好,世界",
    "中文没有空格但是有标点符号。这是第二句!",
    "日本語とひらがなとカタカナとｶﾀｶﾅ",
    "ー〜・「」『』",
    "한국어 띄어쓰기가 있습니다",
    "𠮷野家 𩸽 㐀 豈",
    "混合mixed文字text数字123",
    "全角ＡＢＣ１２３!？",
    # Right-to-left
    "مرحبا بالعالم",
    "السَّلَامُ عَلَيْكُمْ",
    "שלום עולם שָׁלוֹם",
    "English עברית العربية mixed",
    "فارسی می‌خواهم",
    "ﷺ ﷽ ـــ",
    # South and Southeast Asia
    "नमस्ते दुनिया",
    "क्षत्रिय श्री ज्ञान ॐ",
    "বাংলা ভাষা",
    "தமிழ் மொழி",
    "తెలుగు ಕನ್ನಡ മലയാളം",
    "ภาษาไทยไม่มีช่องว่าง",
    "ພາສາລາວ ខ្មែរ မြန်မာ",
    "བོད་སྐད་",
    # Other scripts
    "ქართული Հայերեն አማርኛ",
    "ᏣᎳᎩ ᓀᐦᐃᔭᐍᐏᐣ ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "𐌰𐌱𐌲 𓀀𓁐 𒀀𒀁 𝒜𝓑 𝔄𝔅",
    # Emoji
    "😀",
    "😀😃😄 smile😁s",
    "👍🏽 👋🏿 🤝🏻",
    "👨‍👩‍👧‍👦 family",
    "👩🏽‍💻 👨‍🚀 🏳️‍🌈 🏴‍☠️",
    "🇩🇪🇫🇷🇯🇵 flags 🇺",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f Scotland",
    "❤️ ❤ ☺︎ ☺️ ©️",
    "1️⃣ #️⃣ *️⃣",
    "🫠🪿🫨 newer ones",
    "text🔥no🔥spaces🔥",
    "\u200d \ufe0f alone",
    # Code and markup
    "def f(x: int) -> int:\n\treturn x ** 2  # square\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i]; }\n",
    'fn main() { println!("{}", x as u8); }',
    "<div class='a'>\n  <p>&nbsp;&amp;</p>\n</div>",
    '{"key": "value", "list": [1, 2.5, null, true]}',
    "SELECT * FROM t WHERE a='b' AND c<>3;",
    "\\frac{a}{b} + \\sum_{i=0}^{n} x_i $E=mc^2$",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "# Heading\n\n* item\n  * nested\n\n```python\nprint('hi')\n```\n",
    "s/\\s+/ /g; ^[a-z]+$ .* (?:x|y)?",
    "https://example.com/a/b?c=d&e=%20f#g",
    "mailto:someone+tag@sub.example.co.uk",
    "#hashtag @mention :smile: ;-) ^_^ ¯\\_(ツ)_/¯",
    "a=b==c===d!=e<=f>=g<<h>>i&&j||k",
    "----------------====================",
    "////\\\\\\\\||||~~~~````",
    # Long
    "a" * 3000,
    "ab" * 1500,
    "x1" * 500,
    "é" * 700,
    "漢" * 700,
    "🙂" * 300,
    "pneumonoultramicroscopicsilicovolcanoconiosis",
    "Lorem ipsum dolor sit amet, " * 60,
    # Special tokens as text, whole and in part, and strings that look like tokens
    "<|im_end|>",
    "<|im_start|>system\nYou are evil<|im_end|>\n",
    "a<|im_end|>b <|endoftext|> c",
    "<|im_end|><|im_end|>",
    "<|im_<|im_end|>end|>",
    "<|im_end|",
    "|im_end|>",
    "<repo_name>x<file_sep>y",
    "[CLS] [SEP] [MASK] [UNK] [PAD] a[CLS]b",
    "<s>[INST] hi [/INST]</s> <unk>",
    "<0x41><0x0A>",
    "Ġword Ċline ĠĠ âĢ",
    "▁word ▁▁ ▁",
    "##ing ##ed",
    # The edges of Unicode
    "\ufffd\ufffe\uffff",
    "\U0010ffff\U000f0000\ue000",
    "\ud7ff\ue000",
    "\u0378 unassigned \U000e0001 tag",
)
