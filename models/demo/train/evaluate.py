"""How many held-out questions the model answers exactly, by kind and language, with Wilson 95% bounds.

`python evaluate.py --model ..` runs the PyTorch model; `--url ws://127.0.0.1:8080/ws` asks a running server
(or several that serve the same checkpoint). The questions depend on the seed alone.
`--save DIR` writes pictures and questions for others to ask (`glimpse bench --agreement` does); with `--small` pictures of
the model's size, so that all of them are a few MB.
In PyTorch an answer is right if every one of its tokens (stop token included) is the likeliest one after
the right ones before it: exactly when greedy decoding gives it. Over the wire the text itself is compared.
"""
import argparse
import asyncio
import json
import math
import multiprocessing
import os
from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

import pack
import strangers
from rows import row_hidden
from wordings import STRANGERS


STRANGE = ("photo", "stranger")  # kinds asked about each original of strangers.py, not about drawn scenes
PHONE = {"photo": 0.4, "stranger": 0.4, "drawn, as by a phone": 1.0}  # what share looks taken by a phone; of other kinds none


def wilson_lower(right: int, n: int) -> float:
    """Lower end of the 95% interval of a share."""
    if not n:
        return 0.0
    z, p = 1.96, right / n
    return (p + z * z / (2 * n) - z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


class Tally:
    """Right answers of all, by kind and language; the first few wrong ones of each are kept."""

    def __init__(self):
        self.counts = defaultdict(lambda: [0, 0])
        self.wrong = defaultdict(list)
        self.marks = []  # right or not, in the order of asking
        self.originals = defaultdict(list)  # right or not, of each original of a stranger
        self.alarms = defaultdict(int)  # drawn scenes that were taken for strangers, by kind and language

    def add(self, kind: str, lang: str, right: bool, example=None, original: str = "", alarm: bool = False) -> None:
        self.marks.append(right)
        if original:
            self.originals[original].append(right)
        self.alarms[kind, lang] += alarm
        count = self.counts[kind, lang]
        count[0] += right
        count[1] += 1
        if not right and example and len(self.wrong[kind, lang]) < 8:
            self.wrong[kind, lang].append(example)

    def table(self) -> str:
        lines = ["| kind | language | exact | of | share | 95% lower bound |", "|---|---|---|---|---|---|"]
        for (kind, lang), (right, n) in sorted(self.counts.items()):
            lines.append(f"| {kind} | {lang} | {right} | {n} | {right / n:.1%} | {wilson_lower(right, n):.1%} |")
        return "\n".join(lines)

    def by_original(self) -> str:
        """Strangers by original, each counted once, however often it was asked about; and drawn scenes taken for strangers."""
        lines = ["| strangers | originals | all questions right | share | 95% lower bound |", "|---|---|---|---|---|"]
        sorts = defaultdict(list)
        for name, marks in self.originals.items():
            kind = strangers.kind_of(name)
            sorts["photographs, cut-outs too" if kind in ("photo", "cutout") else "others"].append(all(marks))
            sorts["– " + kind].append(all(marks))
        for sort, marks in sorted(sorts.items(), key=lambda s: (s[0].startswith("–"), s[0])):
            lines.append(f"| {sort} | {len(marks)} | {sum(marks)} | {sum(marks) / len(marks):.1%} | {wilson_lower(sum(marks), len(marks)):.1%} |")
        drawn = [key for key in self.counts if key[0] not in STRANGE]
        alarms, n = sum(self.alarms[key] for key in drawn), sum(self.counts[key][1] for key in drawn)
        most = ", ".join(f"{kind}/{lang} {self.alarms[kind, lang]}" for kind, lang in drawn if self.alarms[kind, lang])
        if n:
            lines += ["", f"False alarms: {alarms} of {n} drawn scenes were taken for strangers, {alarms / n:.2%} (at most {1 - wilson_lower(n - alarms, n):.2%}){': ' + most if most else ''}."]
        return "\n".join(lines)

    def against(self, other: "Tally") -> str:
        """Two tallies of the same questions, side by side. The interval is that of a difference of paired answers."""
        lines = ["| kind | language | of | this | the other | right here alone | right there alone | difference | 95% interval |", "|---|---|---|---|---|---|---|---|---|"]
        fell = []
        at = 0
        for (kind, lang), (right, n) in self.counts.items():  # in the order of asking
            pairs = list(zip(self.marks[at:at + n], other.marks[at:at + n]))
            at += n
            won, lost = pairs.count((True, False)), pairs.count((False, True))
            change, reach = (won - lost) / n, 1.96 * math.sqrt(max(0.0, won + lost - (won - lost) ** 2 / n)) / n
            lines.append(f"| {kind} | {lang} | {n} | {right} | {other.counts[kind, lang][0]} | {won} | {lost} | {change:+.1%} | ± {reach:.1%} |")
            if change + reach < 0:
                fell.append(f"{kind}/{lang} ({change:+.1%} ± {reach:.1%})")
        return "\n".join(lines) + f"\n\nFell by more than its interval: {', '.join(fell) or 'none'}."

    def mean(self) -> float:
        """The mean share over kinds and languages."""
        return sum(r / n for r, n in self.counts.values()) / max(1, len(self.counts))

    def line(self) -> str:
        return f"mean {100 * self.mean():.2f}  " + "  ".join(f"{k}/{l} {100 * r / n:.1f}" for (k, l), (r, n) in sorted(self.counts.items()))


# ---------------------------------------------------------------- in PyTorch

def _one(scene) -> bool:
    return len(scene.facts.groups()) == 1


def _short(limit: int):
    return lambda scene: sum(map(len, scene.facts.texts)) <= limit


# What is measured: the generator's kind, and which of its scenes count.
KINDS = {
    "naming": ("describe", _one), "describe several": ("describe", lambda s: not _one(s)), "counting": ("count", None),
    "counting, follow-up": ("follow_count", None), "colour": ("colour", None), "position": ("position", None),
    "yes/no": ("yesno", None), "Latin text, at most 12": ("read_latin", _short(12)),
    "Chinese text, at most 6": ("read_chinese", _short(6)), "no text": ("read_none", None), "relation": ("relation", None),
    "which shape": ("what_shape", None), "unknowable": ("unknowable", None), "chat": ("chat", None),
    "drawn, as by a phone": (None, None), "photo": ("photo", None), "stranger": ("stranger", None),
}
# A history of these gives the tested answer away in no case.
HISTORY = ("position", "relation", "yesno", "colour", "unknowable", "chat")
ANY = ("describe", "count", "colour", "position", "yesno", "read_latin", "read_chinese")  # what the kind without one is asked
_common = None  # what the generating processes share: (coder, generator class)


def asked(kinds=tuple(KINDS)) -> list[str]:
    """The kinds less those of strangers where their pictures are not there."""
    return [kind for kind in kinds if kind not in STRANGE or strangers.manifest()]


def held_out(coder, make, each: int, width: int, seed: int, rounds: int = 1, kinds=tuple(KINDS)):
    """`each` held-out questions of every kind and language, each asked in round `rounds` of a conversation of its own.

    Of strangers up to `each` originals are asked about, twice in each language.
    Returns (pictures u8 [N, S, S, 3], rows i16 [N, 4, width], [(row, asked at, until, kind, turn, original)]).
    """
    global _common
    _common = coder, make
    share = 1 + each // 10  # scenes a job
    jobs = [(kind, lang, range(at, min(at + share, count)), width, hash((seed, i, at, rounds)) + (lang == "zh"), rounds, each)
            for i, kind in enumerate(kinds) for count in (questions(kind, each),) for lang in ("en", "zh") for at in range(0, count, share)]
    with multiprocessing.get_context("fork").Pool(min(32, len(os.sched_getaffinity(0)))) as pool:
        items = [x for part in pool.map(_make, jobs, chunksize=1) for x in part]
    spans = [(i, *item[2:]) for i, item in enumerate(items)]
    return (torch.from_numpy(np.stack([x[0] for x in items])), torch.from_numpy(np.stack([x[1] for x in items])), spans)


def originals(kind: str, each: int) -> list[str]:
    """The held-out originals that are asked about: all, or as many evenly over the list."""
    known = strangers.names("heldout", kind)
    return known[::max(1, -(-len(known) // each))]


def questions(kind: str, each: int) -> int:
    """How many questions of a kind there are in each language."""
    return 2 * len(originals(kind, each)) if kind in STRANGE else each


def draw(scenes, kind: str, lang: str, number: int = 0, each: int = 1, **options):
    """A scene with one conversation, whose last turn is of that kind (of KINDS) and language; and the stranger's original.

    Of each original one question is about all of it as it is, the next about a worn part."""
    focus, fits = KINDS[kind]
    scenes.phone = PHONE.get(kind, 0.0)
    if kind in STRANGE:
        name = originals(kind, each)[number // 2]
        return scenes.scene(focus=(focus, lang), original=name, whole=number % 2 == 0, **options), name
    while True:
        scene = scenes.scene(focus=(focus or scenes.rng.choice(ANY), lang), **options)
        if not fits or fits(scene):
            return scene, ""


def _make(job):
    """One job of `held_out`: [(picture, row, asked at, until, kind, turn, original)]."""
    kind, lang, numbers, width, seed, rounds, each = job
    coder, make = _common
    scenes, random, out = make(seed, "heldout"), Random(seed), []
    for number in numbers:
        scene, original = draw(scenes, kind, lang, number, each)
        tested = scene.conversations[0]
        history = []
        while len(history) < rounds - 1:
            history += [t for c in scenes._talk(scene.facts, scene.kind) if c.picture for t in c
                        if t.kind in HISTORY and t.kind != tested[-1].kind]
        row = pack.Row(coder, width)
        if not row.add(history[:rounds - 1] + list(tested), random, lambda t, i: 1.0):
            raise ValueError(f"a conversation of {rounds} rounds does not fit {width} tokens")
        out.append((scene.image, row.lines, *row.spans[-1][:2], kind, tested[-1], original))
    return out


@torch.no_grad()
def teacher_forced(model, coder, held, device, batch: int = 128, long: bool = False) -> Tally:
    """Exact answers over `held_out` scenes."""
    images, rows, spans = held
    head = torch.tensor(coder.head, device=device)
    predicted = []
    with torch.compiler.set_stance("force_eager"):  # these shapes are not worth compiling for
        for i in range(0, len(images), batch):
            r = rows[i:i + batch].to(device)
            hidden = row_hidden(model, head, images[i:i + batch].to(device), r, long)
            predicted.append(model.logits(hidden).argmax(-1).cpu())
    predicted = torch.cat(predicted).numpy()
    ids, tally = rows[:, pack.IDS].numpy(), Tally()
    openings = {coder.encode(by_lang[lang])[0] for by_lang in STRANGERS.values() for lang in by_lang}
    for row, start, end, kind, turn, original in spans:
        right = bool((predicted[row, start:end] == ids[row, start + 1:end + 1]).all())
        said = coder.encoding.decode([t for t in predicted[row, start + 1:end - 1].tolist() if t < coder.ranks])
        # What begins as no other answer does begins a stranger's sentence.
        alarm = not original and not right and predicted[row, start + 1] in openings and ids[row, start + 2] not in openings
        tally.add(kind, turn.lang, right, (turn.question, turn.answer, said), original, alarm)
    return tally


# ---------------------------------------------------------------- through a server

def through_server(urls, connections: int, seed: int, each: int, kinds) -> Tally:
    """Asks `each` held-out questions of every kind and language, over that many connections at once."""
    share, tally = 20, Tally()  # questions a connection
    jobs = [(f"{seed}/{kind}/{lang}/{at}", kind, lang, range(at, min(at + share, count)), each)
            for kind in kinds for count in (questions(kind, each),) for lang in ("en", "zh") for at in range(0, count, share)]
    jobs = [(urls[i % len(urls)], *job) for i, job in enumerate(jobs)]
    with multiprocessing.get_context("fork").Pool(connections) as pool:
        for job, answers in zip(jobs, pool.imap(_ask, jobs)):
            for turn, original, text in answers:
                alarm = not original and any(text in by_lang.values() for by_lang in STRANGERS.values())
                tally.add(*job[2:4], text == turn.answer, (turn.question, turn.answer, text), original, alarm)
    return tally


def _ask(job):
    """One job of `through_server`: [(turn, original, given answer)]."""
    from scenes import Generator
    url, seed, kind, lang, numbers, each = job
    scenes = Generator(seed, "heldout")
    return asyncio.run(ask_server(url, (draw(scenes, kind, lang, number, each, full=True) for number in numbers)))


async def ask_server(url: str, scenes) -> list:
    """The scenes' questions, about pictures sent as JPEG or PNG files (greedy): [(last turn, original, given answer)]."""
    import websockets
    answers = []
    async with websockets.connect(url, subprotocols=["glimpse.v1"], max_size=None) as ws:
        async def until(*types, request=None):
            while True:
                m = json.loads(await ws.recv())
                if m["type"] == "error":
                    raise RuntimeError(m)
                if m["type"] in types and (request is None or m.get("request") == request):
                    return m
                if m["type"] == "token" and request == m["request"]:
                    said.append(m["text"])

        for number, (scene, original) in enumerate(scenes, 1):
            await ws.send(json.dumps({"type": "upload", "upload": number, "bytes": len(scene.full)}))
            for at in range(0, len(scene.full), 65532):
                await ws.send(number.to_bytes(4, "big") + scene.full[at:at + 65532])
            image = (await until("upload_received"))["image"]
            known = None
            for t, turn in enumerate(scene.conversations[0]):
                said, request = [], f"{number}.{t}"
                message = {"type": "ask", "request": request, "text": turn.question,
                           "sampling": {"temperature": 0, "repetition_penalty": 1, "max_new_tokens": 96}}
                message |= {"conversation": known} if known else {"upload": number}
                await ws.send(json.dumps(message))
                known = (await until("done", request=request))["conversation"]
            answers.append((turn, original, "".join(said).strip()))
            await ws.send(json.dumps({"type": "forget", "conversation": known}))
            await ws.send(json.dumps({"type": "forget", "image": image}))
    return answers


def save(out: Path, scenes, each: int, kinds, small: bool) -> None:
    """Writes the same pictures and questions for others to ask: picture files, and a line of questions.jsonl for each."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "questions.jsonl", "w") as lines:
        for number, (kind, lang, at) in enumerate((k, l, n) for k in kinds for l in ("en", "zh") for n in range(questions(k, each))):
            scene, _ = draw(scenes, kind, lang, at, each, full=True)
            name = f"{number}.{'webp' if small else scene.media.split('/')[1]}"
            if small:
                Image.fromarray(scene.image).save(out / name, quality=90)
            else:
                (out / name).write_bytes(scene.full)
            turns = [dict(question=t.question, answer=t.answer) for t in scene.conversations[0]]
            print(json.dumps(dict(image=name, kind=kind, lang=lang, turns=turns), ensure_ascii=False), file=lines)


def main() -> None:
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--model", type=Path, default=Path(".."), help="published folder")
    a.add_argument("--against", type=Path, help="another published folder, to be compared question by question")
    a.add_argument("--url", nargs="+", help="a running server's socket, instead of PyTorch; several to share the work")
    a.add_argument("--connections", type=int, default=2, help="questions asked at once")
    a.add_argument("--save", type=Path, help="ask nobody: write pictures and questions into this folder")
    a.add_argument("--small", action="store_true", help="with --save: pictures of the model's size")
    a.add_argument("--each", type=int, default=300, help="questions of each kind and language")
    a.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="which kinds; all")
    a.add_argument("--rounds", type=int, nargs="*", default=[], help="also ask in these rounds of one conversation")
    a.add_argument("--width", type=int, default=202)
    a.add_argument("--seed", type=int, default=77)
    a.add_argument("--report", type=Path, help="also write the tables and some wrong answers here")
    a = a.parse_args()
    a.kinds = asked(a.kinds)
    from scenes import Generator
    if a.save:
        return save(a.save, Generator(a.seed, "heldout"), a.each, a.kinds, a.small)
    parts, compared = [], ""
    if a.url:
        parts.append(("through the server", through_server(a.url, a.connections, a.seed, a.each, a.kinds)))
    else:
        import export
        coder = pack.Coder(a.model)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        held = held_out(coder, Generator, a.each, a.width, a.seed, kinds=a.kinds)
        # A stranger's answers are all the same: an earlier one would give the tested one away.
        later = [kind for kind in a.kinds if kind not in STRANGE]
        sets = [("in PyTorch", held, 128)]
        sets += [(f"in round {n} of one conversation", held_out(coder, Generator, max(1, a.each // 6), 128 + 26 * n, a.seed + n, n, later), 16) for n in a.rounds]
        model = export.load_model(a.model, torch.bfloat16 if device.type == "cuda" else torch.float32).to(device)
        other = export.load_model(a.against, model.dtype).to(device) if a.against else None
        for title, held, batch in sets:
            tally = teacher_forced(model, coder, held, device, batch, long=batch == 16)
            parts.append((title, tally))
            if other:
                before = teacher_forced(other, coder, held, device, batch, long=batch == 16)
                parts.append((f"{title}, {a.against}", before))
                compared += f"### {title}, against {a.against}\n\n{tally.against(before)}\n\n"
    text = ""
    for title, tally in parts:
        text += f"### {title}\n\n{tally.table()}\n\n"
        text += f"{tally.by_original()}\n\n" if tally.originals else ""
    text += compared
    print(text)
    if a.report:
        for title, tally in parts:
            text += f"### wrong answers, {title}: question, right answer, given answer\n\n"
            for (kind, lang), examples in sorted(tally.wrong.items()):
                text += "".join(f"- {kind}/{lang}: {q!r} → {r!r}, not {s!r}\n" for q, r, s in examples)
        a.report.write_text(text)


if __name__ == "__main__":
    main()
