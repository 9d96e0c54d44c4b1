#!/usr/bin/env python3
"""Writes draws.json: the numbers in [0, 1) that answers are drawn with, times 2⁵³, by an implementation of its own.

ChaCha with 8 rounds (D. J. Bernstein's original: 64 bits of counter, 64 of nonce). The key is the seed, its eight bytes lowest first and
then zeros; the nonce is the token's place in the answer; the draws of a token are the stream's 64-bit words in order, of each the upper
53 bits.
"""

import json
import struct
from pathlib import Path

MASK = 0xFFFFFFFF


def rotated(x, n):
    return (x << n | x >> (32 - n)) & MASK


def quarter(s, a, b, c, d):
    for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        s[x] = (s[x] + s[y]) & MASK
        s[z] = rotated(s[z] ^ s[x], n)


def block(key, counter, nonce):
    start = list(struct.unpack("<4I", b"expand 32-byte k")) + list(struct.unpack("<8I", key))
    start += list(struct.unpack("<4I", struct.pack("<QQ", counter, nonce)))
    s = start[:]
    for _ in range(4):
        for column in range(4):
            quarter(s, column, 4 + column, 8 + column, 12 + column)
        for i in range(4):
            quarter(s, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return [(a + b) & MASK for a, b in zip(s, start)]


def draws(seed, position, count):
    key = struct.pack("<Q", seed) + bytes(24)
    words = [word for counter in range(count * 2 // 16 + 1) for word in block(key, counter, position)]
    return [((words[2 * i + 1] << 32 | words[2 * i]) >> 11) for i in range(count)]


if __name__ == "__main__":
    # RFC 8439's test vector has 20 rounds; this one is of the eSTREAM set: 256 bits of key, all 0.
    assert struct.pack("<16I", *block(bytes(32), 0, 0)).hex().startswith("3e00ef2f895f40d67f5bb8e81f09a5a1")
    cases = [(0, 0), (1, 0), (1, 1), (7, 1000), (2**53 - 1, 2**33)]
    table = [{"seed": seed, "position": position, "draws": draws(seed, position, 40)} for seed, position in cases]
    path = Path(__file__).with_name("draws.json")
    path.write_text(json.dumps(table, indent=1) + "\n")
