"""Texts that break a tokenizer's shortcuts, and the published tokenizer's split pattern."""

import random

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SPECIAL_TOKENS = [
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
]

TEXTS = [
    "",
    " ",
    "\n",
    "What is in the picture?",
    "How many cats are there, and what colour is the dog's collar?",
    "I'M sure they'Ve said it'll rain; we'd've known, y'all're RIGHT'S 'tis 'ſ",
    "图里有几只猫？",
    "提取文字，不要解释",
    "这张照片是谁拍的?图里有啥？混合English和数字123的句子。",
    "日本語のテキスト、カタカナとひらがな。한국어 문장입니다.",
    "繁體中文與𠮷野家的罕用字㐀𪚥",
    "👍 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇯🇵 ❤️‍🔥 1️⃣ ☺︎",
    "0 12 345 6789 1234567890 3.14159 1,000,000.00 2024-06-30T12:34:56Z 0x1F 10⁻³ ½ Ⅷ ٣٤٥ 一二三",
    "a1b22c333d4444 v1.2.3-rc4 50% $9.99 #42",
    "line one\r\nline two\r\n\r\n\r\nline five\rold mac\n\n\ttabbed\r\n",
    "two  three   four    spaces     and trailing   ",
    "   leading, \t\ttabs \t mixed\u00a0nbsp\u2003em\u3000ideographic\u200bzero\u2028ls\u2029ps\u0085nel\x0bvt\x0cff",
    "def f(x: int) -> str:\n    if x >= 10:\n        return f\"{x!r:>8}\"\n\n    # 注释\n    return '' if not x else \"a\\n\"\n",
    "for (int i = 0; i < n; ++i) { a[i] = b[i] && ~c; } // done!!!\r\n#include <stdio.h>\r\n",
    "<div class=\"x\">&nbsp;</div> {{template}} https://example.org/a?b=c&d=%20#e user@example.org",
    "مرحبا بالعالم، كيف حالك؟ שלום עולם! \u202bהפוך\u202c abc",
    "نص مع تشكيل: مُحَمَّدٌ ; עִבְרִית מְנֻקֶּדֶת",
    "e\u0301 vs é, n\u0303, a\u030a\u0323, Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334a\u0337l\u0335g\u0336o\u0338",
    "हिन्दी में क्षत्रिय, ภาษาไทยไม่มีวรรค, தமிழ், ქართული, Ελληνικά, Кириллица, ʻokina",
    "<|user|>hello<|assistant|>\n[gMASK]<sop> <|endoftext|><|begin_of_image|><|endoftext|><|end_of_image|>",
    "<| user |> < |user|> <|USER|> [gmask] </credit> <s></s> <pad>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "哈哈哈哈哈哈哈哈哈哈哈 ababababababababab !!!!!!!!!!!!!! ............ ----------========",
    "straße ﬁne ﬆop İstanbul ıI ǅ ŉ K Å \u017f\u0130",
    "\ufeffbyte order mark, \ufffd replacement, \ue000 private, \U0010ffff last, \x00 nul \x7f del \x1b[31mred\x1b[0m",
    "Schifffahrtsgesellschaftskapitänsmützenabzeichen antidisestablishmentarianism",
    "x" * 600 + " " * 300 + "y" + "\n" * 100 + "!" * 200,
]

_ALPHABETS = [
    "ab", "aA bB'sStTdDmM", " \t\r\n\u00a0\u3000x", "0123456789. ", "图里有几只猫狗，。？", "👍🏽👨‍👩‍👧‍👦🏳️‍🌈",
    "e\u0301\u0302\u0327ao", "שלוםمرحبا\u202b\u202c ", "<|user>[gMASK]/ ", "{}()[]<>;:=+-*/&|^%$#@!~`'\"\\,.?_",
]


def random_texts(count, seed=20240630):
    """Texts of one alphabet, of several mixed, and of any code point at all."""
    rng = random.Random(seed)

    def any_character():
        code = rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)])
        return chr(code) if not 0xD800 <= code < 0xE000 else "?"

    for index in range(count):
        length = rng.randrange(1, 60)
        if index % 3 == 0:
            alphabet = rng.choice(_ALPHABETS)
            yield "".join(rng.choice(alphabet) for _ in range(length))
        elif index % 3 == 1:
            yield "".join(rng.choice(rng.choice(_ALPHABETS)) for _ in range(length))
        else:
            yield "".join(any_character() for _ in range(length))
