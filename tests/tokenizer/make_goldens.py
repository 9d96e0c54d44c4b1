"""Makes small/: a small tiktoken vocabulary and what Python's tiktoken says of it.

    python -m pip install tiktoken==0.14.0
    python tests/tokenizer/make_goldens.py

The vocabulary has merges learned from the corpus, and after them whole words that no merge reaches (each still wins
where it is a piece of its own).
"""

import base64
import collections
import json
import pathlib
import random

import regex
import tiktoken

from corpus import SPECIAL_TOKENS, SPLIT_PATTERN, TEXTS, random_texts

OUT = pathlib.Path(__file__).parent / "small"
MERGES = 400
WHOLE_WORDS = ["Schifffahrtsgesellschaftskapitänsmützenabzeichen", " antidisestablishmentarianism", "图里有几只猫",
               "提取文字", "不要解释", "👍", "日本語のテキスト", "हिन्दी", " picture", "6789", "cats", "```", "aaaaaaa", "\n\n"]


def learn(texts, merges):
    words = collections.Counter(
        tuple(bytes([b]) for b in piece.encode()) for text in texts for piece in regex.findall(SPLIT_PATTERN, text)
    )
    tokens = [bytes([b]) for b in range(256)]
    for _ in range(merges):
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += count
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        if left + right not in tokens:
            tokens.append(left + right)
        joined = collections.Counter()
        for word, count in words.items():
            new, i = [], 0
            while i < len(word):
                if word[i:i + 2] == (left, right):
                    new.append(left + right)
                    i += 2
                else:
                    new.append(word[i])
                    i += 1
            joined[tuple(new)] += count
        words = joined
    return tokens


def main():
    tokens = learn(TEXTS[:-1], MERGES)
    tokens += [word.encode() for word in WHOLE_WORDS if word.encode() not in tokens]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("small", pat_str=SPLIT_PATTERN, mergeable_ranks=ranks, special_tokens={})

    def ids(text):
        found = encoding.encode_ordinary(text)
        assert encoding.decode_bytes(found) == text.encode()
        return found

    rng = random.Random(7)
    # Ids in any order spell any bytes: what a reader sees of them is Python's own decoding.
    noise = [[rng.randrange(len(tokens)) for _ in range(rng.randrange(1, 12))] for _ in range(100)]
    noise += [[rng.randrange(0x80, 0x100) for _ in range(rng.randrange(1, 12))] for _ in range(200)]
    whole = [[b for b in text.encode()] for text in TEXTS if 0 < len(text) < 200]
    cut = [raw[:rng.randrange(1, len(raw) + 1)] for raw in whole]
    decode = [[seq, encoding.decode_bytes(seq).decode("utf-8", errors="replace")] for seq in noise + whole + cut]

    OUT.mkdir(exist_ok=True)
    with open(OUT / "tokenizer.model", "w", newline="\n") as file:
        for token, rank in ranks.items():
            file.write(f"{base64.b64encode(token).decode()} {rank}\n")
    specials = {
        str(len(tokens) + i): {"content": name, "lstrip": False, "normalized": False, "rstrip": False,
                               "single_word": False, "special": True}
        for i, name in enumerate(SPECIAL_TOKENS)
    }
    specials[str(len(tokens) + len(SPECIAL_TOKENS))] = {"content": "</credit>", "special": False}
    (OUT / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": specials, "tokenizer_class": "ChatGLM4Tokenizer"}, indent=1) + "\n")
    goldens = {
        "made_with": f"tiktoken {tiktoken.__version__}, tests/tokenizer/make_goldens.py",
        "encode": [[text, ids(text)] for text in TEXTS + list(random_texts(300))],
        "decode": decode,
    }
    lines = json.dumps(goldens, ensure_ascii=True, separators=(",", ":")).replace("]],[[", "]],\n[[")
    (OUT / "goldens.json").write_text(lines.replace('],["', '],\n["') + "\n")


main()
