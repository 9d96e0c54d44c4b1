"""Builds the demo's vocabulary: tokenizer.model (tiktoken: `base64 rank` a line) and tokenizer_config.json.

    python vocab.py FOLDER

The 256 bytes come first, then the two-byte beginnings of the Chinese characters, the characters, and whole words
of the questions and answers. tiktoken takes a piece that is a token as a whole before it merges anything, and no
token is built of two words or letters, so arbitrary printed strings stay spelled letter by letter: reading needs it.
"""

import base64
import json
import re
import sys
from pathlib import Path

from charset import CHINESE
from wordings import all_strings, opening_words

PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
           "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"]


def ranks() -> dict[bytes, int]:
    strings = all_strings()
    characters = list(dict.fromkeys(CHINESE + "".join(sorted({c for s in strings for c in s if ord(c) > 127}))))
    words = [" " + word for word in sorted({word for s in strings for word in re.findall(r"[A-Za-z]{2,}", s)})]
    # Two letters without a space are left to the bytes: as a token they would merge inside printed strings.
    words += [form for word in sorted(opening_words()) if len(word) > 2 for form in (word, word.capitalize())]
    tokens = [bytes([b]) for b in range(256)]
    encoded = [c.encode() for c in characters]
    tokens += sorted({e[:2] for e in encoded if len(e) == 3})
    tokens += encoded + [w.encode() for w in words] + [b"'s", b"'t"]
    return {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}


def special_ids(ranks_: dict[bytes, int] | None = None) -> dict[str, int]:
    first = len(ranks_ or ranks())
    return {name: first + k for k, name in enumerate(SPECIAL)}


def encoding():
    """The tiktoken Encoding of this vocabulary."""
    import tiktoken

    table = ranks()
    return tiktoken.Encoding("glimpse-demo", pat_str=PATTERN, mergeable_ranks=table, special_tokens=special_ids(table))


def write(folder: Path) -> None:
    table = ranks()
    ids = special_ids(table)
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in table.items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n")
    added = {str(number): {"content": name, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True} for name, number in ids.items()}
    config = {
        "added_tokens_decoder": added,
        "additional_special_tokens": SPECIAL,
        "clean_up_tokenization_spaces": False,
        "do_lower_case": False,
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 8192,
        "padding_side": "left",
        "remove_space": False,
        "tokenizer_class": "ChatGLM4Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    print(f"{len(table)} ranks, {len(ids)} special tokens")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
