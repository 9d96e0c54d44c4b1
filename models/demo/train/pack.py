"""Conversations as token rows.

A picture is encoded once for all conversations of its scene, so a row holds, after the shared prefix
(`[gMASK] <sop> <|user|> \\n` and the picture), several conversations side by side; each sees the
prefix and itself only, and its positions go on where the prefix ended. Segments tell them apart:
1..127 conversations about the picture, 128..254 conversations without one (they carry their own
`[gMASK] <sop> <|user|> \\n`), 255 padding.
"""
import base64
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
import tiktoken

PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
AFTER_PICTURE = 7  # four prefix tokens, boi, one shared position, eoi
NO_PICTURE, PADDING = 128, 255
IDS, POSITIONS, SEGMENTS, WEIGHTS = range(4)  # the four int16 lines of a row (weights: the bits of an f16)


class Coder:
    """The published tokenizer and conversation format."""

    def __init__(self, folder):
        lines = (Path(folder) / "tokenizer.model").read_bytes().splitlines()
        ranks = {base64.b64decode(a): int(b) for a, b in (line.split() for line in lines)}
        encoding = tiktoken.Encoding("demo", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
        self.ranks, self.encoding = len(ranks), encoding
        self.encode = lru_cache(1 << 16)(lambda text: tuple(encoding.encode_ordinary(text)))
        names = ["<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
                 "<|assistant|>"]
        ids = {n: self.ranks + i for i, n in enumerate(names)}
        self.newline = self.encode("\n")[0]
        self.user, self.assistant, self.pad = ids["<|user|>"], ids["<|assistant|>"], ids["<|endoftext|>"]
        self.head = [ids["[gMASK]"], ids["<sop>"], self.user, self.newline]

    def turn(self, turn, first: bool) -> tuple[list[int], int]:
        """Ids of a turn (its stop token included) and the index in them where the answer is asked for."""
        question = self.encode(turn.question)
        ids = [*([] if first else [self.newline]), *question, self.assistant]
        return [*ids, self.newline, *self.encode(turn.answer), self.user], len(ids) - 1


class Row:
    """One row under construction: `width` tokens after the prefix."""

    def __init__(self, coder: Coder, width: int):
        self.coder, self.width, self.length, self.segments = coder, width, 0, [0, 0]
        self.lines = np.zeros((4, width), np.int16)
        self.lines[IDS], self.lines[SEGMENTS] = coder.pad, PADDING
        self.weights = self.lines[WEIGHTS].view(np.float16)
        self.spans = []  # (first predicting index, end, turn): where each answer is predicted

    def add(self, conversation, random: Random, weigh, picture=True, jump=0.0, clip=False) -> bool:
        """Appends a conversation; False, with nothing changed, if it does not fit (`clip`: if no turn of it does).

        weigh(turn, index) is the turn's loss weight. With probability `jump` positions leap ahead by up
        to 4096 before one of the turns, as they do when many rounds lie between.
        """
        coder, ids, marks = self.coder, [] if picture else list(self.coder.head), []
        for i, turn in enumerate(conversation):
            tokens, ask = coder.turn(turn, first=i == 0)
            if self.length + len(ids) + len(tokens) > self.width:
                if not clip or not marks:
                    return False
                break
            marks.append((len(ids), len(ids) + ask, len(ids) + len(tokens) - 1, turn))
            ids += tokens
        a, n = self.length, len(ids)
        kind = 0 if picture else 1
        if self.segments[kind] >= 126:
            return False
        self.segments[kind] += 1
        positions = np.arange(n) + (AFTER_PICTURE if picture else 0)
        if random.random() < jump:
            start = random.choice(marks)[0]
            positions[start:] += int(2 ** random.uniform(3, 12))
        self.lines[IDS, a:a + n], self.lines[POSITIONS, a:a + n] = ids, positions
        self.lines[SEGMENTS, a:a + n] = self.segments[kind] + (0 if picture else NO_PICTURE)
        for i, (_, ask, end, turn) in enumerate(marks):
            # Between per-token and per-answer weight: a long text counts more than a number, not ten times more.
            self.weights[a + ask:a + end] = weigh(turn, i) / (end - ask) ** 0.5
            self.spans.append((a + ask, a + end, turn))
        self.length += n
        return True


def short_row(coder, width, conversations, bare, random, weigh) -> Row:
    """As many of the scene's conversations as fit, in random order; `bare` ones have no picture."""
    row = Row(coder, width)
    for conversation in random.sample(conversations, len(conversations)):
        row.add(conversation, random, weigh, jump=0.3)
    for conversation in bare:
        row.add(conversation, random, weigh, picture=False, jump=0.1)
    return row


def long_row(coder, width, conversations, random, weigh) -> Row:
    """One conversation of very many turns. New questions are spread over all of it and in between old
    ones come back, so that a question first asked in round 80 must still be answered from the picture."""
    fresh = random.sample(conversations, len(conversations))
    length = [sum(len(coder.turn(t, False)[0]) for t in c) for c in fresh]
    order, new, used, seen = [], [], 0, 0
    while used < width:
        if seen < len(fresh) and (seen < 2 or used >= width * seen / len(fresh)):
            i, seen = seen, seen + 1
            new += [True] * len(fresh[i])
        else:
            i = random.randrange(seen)
            new += [False] * len(fresh[i])
        order += fresh[i]
        used += length[i]
    row = Row(coder, width)
    row.add(order, random, lambda t, i: weigh(t, i) * (1.0 if new[i] else 0.1), jump=0.5, clip=True)
    return row
