"""Questions about a scene and their answers: single turns, follow-ups, whole conversations."""

import random
from dataclasses import dataclass, field

import wordings as w
from things import CLASSES, COLOURS, KINDS, SHAPES, THINGS

MARGIN = 0.045  # a position is asked only this far (of the side) from the borders between the nine cells
APART = 0.12  # two things are left/right/above/below of each other only this far apart
UNKNOWABLE = ("who_photo", "who_photo", "when_photo", "where_photo", "who_is")
CHAT = ("hello", "thanks", "bye", "who_you", "what_can", "offtopic", "offtopic", "offtopic")
_THING_KEYS = [kind.key for kind in THINGS]
_SHAPE_KEYS = [kind.key for kind in SHAPES]


@dataclass
class Item:
    """A thing or shape in the picture; the centre and the half-size are parts of the picture's width and height."""

    key: str
    colour: str | None
    x: float
    y: float
    rx: float
    ry: float


@dataclass
class Turn:
    question: str
    answer: str
    kind: str
    lang: str


class Conversation(list):
    """A list of Turns. `picture` is False for a conversation that has no picture at all."""

    picture = True


@dataclass
class Facts:
    """All that is true of a scene."""

    items: list[Item]
    texts: list[str] = field(default_factory=list)
    script: str = ""  # "latin" or "chinese", of the printed text
    text_at: Item | None = None  # where the text is and its colour (None: hard to name)
    stranger: str = ""  # "photo" or "stranger" (of wordings.STRANGERS): no drawn scene, the rest only makes up what is asked

    def count(self, key: str, colour: str | None = None) -> int:
        return sum(item.key == key and colour in (None, item.colour) for item in self.items)

    def single(self) -> list[Item]:
        return [item for item in self.items if self.count(item.key) == 1]

    def groups(self) -> list[tuple[str, str | None, int]]:
        counts: dict[tuple[str, str | None], int] = {}
        for item in self.items:
            counts[item.key, item.colour] = counts.get((item.key, item.colour), 0) + 1
        return [(key, colour, n) for (key, colour), n in counts.items()]


def cell(item: Item) -> tuple[int, int] | None:
    """The cell of nine that the item's centre lies clearly in."""
    place = []
    for v in (item.x, item.y):
        if min(abs(v - 1 / 3), abs(v - 2 / 3)) < MARGIN:
            return None
        place.append(int(v * 3))
    return place[0], place[1]


def _side(a: Item, b: Item, side: str) -> bool | None:
    """Whether a lies to that side of b; None where it is not clear."""
    d = {"left": b.x - a.x, "right": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}[side]
    return None if abs(d) < APART else d > 0


class Talker:
    """Draws conversations about one scene."""

    def __init__(self, facts: Facts, rng: random.Random):
        self.facts, self.rng = facts, rng

    # ------------------------------------------------------------ one question of a kind; None: not possible here
    def turn(self, kind: str, lang: str, before: tuple[str, str | None] | None = None) -> tuple[Turn, str | None] | None:
        """A turn of the kind and the key of the thing it was about. `before`: kind and thing of the turn before."""
        method = getattr(self, "_" + kind)
        more = before[0] if before and self.rng.random() < 0.75 else None
        return method(lang, more, before[1] if before else None)

    def _other(self, keys) -> str:
        """A kind that is not in the picture, rather a shape where shapes are."""
        pool = _SHAPE_KEYS if any(k in _SHAPE_KEYS for k in keys) and self.rng.random() < 0.6 else _THING_KEYS
        while True:
            key = self.rng.choice(pool)
            if key not in keys:
                return key

    def _keys(self) -> list[str]:
        return list(dict.fromkeys(item.key for item in self.facts.items))

    def _make(self, ask: str, lang: str, answer: str, kind: str, about: str | None, **slots):
        return Turn(w.ask(ask, lang, self.rng, **slots), answer, kind, lang), about

    def _describe(self, lang, more, last):
        kind = "describe_text" if self.facts.texts else "describe"
        return self._make("describe", lang, w.describe(self.facts.groups(), self.facts.texts, lang), kind, self._keys()[0] if len(self.facts.items) == 1 else None)

    def _count(self, lang, more, last):
        keys, rng = self._keys(), self.rng
        if not keys or rng.random() < 0.13:
            key = self._other(keys)
        else:
            key = rng.choice(keys) if rng.random() < 0.5 else max(keys, key=self.facts.count)
        if key == last and len(keys) > 1:
            key = rng.choice([k for k in keys if k != last])
        ask = "count_more" if more == "count" and key != last else "count"
        return self._make(ask, lang, str(self.facts.count(key)), "count", key, **w.question_names(key, lang, rng))

    def _total(self, lang, more, last):
        items = self.facts.items
        if self.rng.random() < 0.4:
            name, (members, *_) = self.rng.choice(list(CLASSES.items()))
            here = [c for c, (keys, *_) in CLASSES.items() if any(item.key in keys for item in items)]
            if here and self.rng.random() < 0.85:
                name = self.rng.choice(here)
                members = CLASSES[name][0]
            number = sum(item.key in members for item in items)
            if number <= 6:
                return self._make("count", lang, str(number), "count", None, **w.class_names(name, lang, self.rng))
        if len(items) > 6 or self.facts.texts:
            return None
        shapes = sum(item.key in _SHAPE_KEYS for item in items)
        if shapes and (shapes == len(items) or self.rng.random() < 0.5) and self.rng.random() < 0.7:
            return self._make("shapes", lang, str(shapes), "count", None)
        return self._make("total", lang, str(len(items)), "count", None)

    def _colour(self, lang, more, last):
        choices = [item for item in self.facts.single() if item.colour]
        text = self.facts.text_at
        if text and text.colour and self.rng.random() < 0.5:
            return self._make("text_colour", lang, w.colour_answer(text.colour, lang), "colour", None)
        if not choices:
            return None
        item = self.rng.choice(choices)
        if last and more and any(c.key == last for c in choices) and more != "colour":
            return self._make("colour_it", lang, w.colour_answer(next(c for c in choices if c.key == last).colour, lang), "colour", last)
        ask = "colour_more" if more == "colour" and item.key != last else "colour"
        return self._make(ask, lang, w.colour_answer(item.colour, lang), "colour", item.key, **w.question_names(item.key, lang, self.rng))

    def _what_shape(self, lang, more, last):
        colours = [item.colour for item in self.facts.items]
        choices = [item for item in self.facts.items if item.colour and colours.count(item.colour) == 1]
        if not choices:
            return None
        item = self.rng.choice(choices)
        return self._make("what_shape", lang, w.name_answer(item.key, None, lang), "what_shape", item.key, C=w.colour_word(item.colour, lang, self.rng))

    def _position(self, lang, more, last):
        choices = [item for item in self.facts.single() if cell(item)]
        text = self.facts.text_at
        if text and cell(text) and self.rng.random() < 0.4:
            return self._make("text_where", lang, w.CELLS[lang][cell(text)], "position", None)
        if not choices:
            return None
        item = self.rng.choice(choices)
        if last and more and more != "position" and any(c.key == last for c in choices):
            item, ask = next(c for c in choices if c.key == last), "position_it"
        else:
            ask = "position_more" if more == "position" and item.key != last else "position"
        return self._make(ask, lang, w.CELLS[lang][cell(item)], "position", item.key, **w.question_names(item.key, lang, self.rng))

    def _relation(self, lang, more, last):
        singles = self.facts.single()
        if len(singles) < 2 or len(self.facts.items) > 4:
            return None
        item, side = self.rng.choice(singles), self.rng.choice(("left", "right", "above", "below"))
        judged = [_side(other, item, side) for other in self.facts.items if other is not item]
        if None in judged or sum(judged) > 1:
            return None
        found = [other for other in self.facts.items if other is not item and _side(other, item, side)]
        answer = w.name_answer(found[0].key, found[0].colour, lang) if found else w.ANSWERS["none_there"][lang]
        if not found and self.rng.random() < 0.7:
            return None
        slots = w.question_names(item.key, lang, self.rng) | {"side": w.expand(w.SIDES[lang][side], self.rng)}
        return self._make("relation", lang, answer, "relation", found[0].key if found else None, **slots)

    def _relation_yes(self, lang, more, last):
        singles = self.facts.single()
        if len(singles) < 2:
            return None
        a, b = self.rng.sample(singles, 2)
        side = self.rng.choice(("left", "right", "above", "below"))
        truth = _side(a, b, side)
        if truth is None:
            return None
        slots = w.question_names(a.key, lang, self.rng) | {"Y": w.question_names(b.key, lang, self.rng)["X"], "side": w.expand(w.SIDES[lang][side], self.rng)}
        return self._make("relation_yes", lang, w.ANSWERS["yes" if truth else "no"][lang], "relation", a.key, **slots)

    def _yesno(self, lang, more, last):
        keys, rng = self._keys(), self.rng
        draw = rng.random()
        coloured = [item for item in self.facts.items if item.colour]
        if coloured and draw < 0.3:
            item = rng.choice(coloured)
            if draw < 0.12 and self.facts.count(item.key) == 1:
                colour = item.colour if rng.random() < 0.5 else rng.choice([c for c in COLOURS if c != item.colour])
                truth = colour == item.colour
                return self._make("is_colour", lang, w.ANSWERS["yes" if truth else "no"][lang], "yesno", item.key, C=w.colour_word(colour, lang, rng), **w.question_names(item.key, lang, rng))
            colour = item.colour if rng.random() < 0.5 else rng.choice(list(COLOURS))
            truth = self.facts.count(item.key, colour) > 0
            names = w.question_names(item.key, lang, rng)
            word = w.colour_word(colour, lang, rng)
            names["a"] = w.article(word)
            return self._make("yesno_colour", lang, w.ANSWERS["has" if truth else "has_not"][lang], "yesno", item.key, C=word, cX=f"{word} {names['X']}", **names)
        if draw > 0.92:
            truth = bool(self.facts.texts)
            return self._make("yesno_text", lang, w.ANSWERS["has" if truth else "has_not"][lang], "yesno", None)
        truth = bool(keys) and rng.random() < 0.5
        key = rng.choice(keys) if truth else self._other(keys)
        ask = "yesno_more" if more == "yesno" and key != last else "yesno"
        return self._make(ask, lang, w.ANSWERS["has" if truth else "has_not"][lang], "yesno", key, **w.question_names(key, lang, rng))

    def _read(self, lang, more, last):
        if not self.facts.texts:
            return self._make("read", lang, w.ANSWERS["no_text"][lang], "read_none", None)
        return self._make("read", lang, "\n".join(self.facts.texts), "read_" + self.facts.script, None)

    def _unknowable(self, lang, more, last):
        key = self.rng.choice(UNKNOWABLE)
        return self._make(key, lang, w.ANSWERS[key][lang], "unknowable", last)

    def _chat(self, lang, more, last):
        key = self.rng.choice(CHAT)
        return self._make(key, lang, w.ANSWERS[key][lang], "chat", last)

    # ------------------------------------------------------------ conversations
    def conversation(self, weights: dict[str, float], turns: int) -> Conversation:
        """A conversation of about that many turns; the first kinds are drawn by weight, later ones often stay with the kind."""
        rng, out = self.rng, Conversation()
        lang = rng.choice(("en", "zh"))
        names, shares = list(weights), list(weights.values())
        before, reading = None, 0
        for _ in range(turns * 4):
            if len(out) >= turns:
                break
            if before and rng.random() < 0.2:
                lang = "zh" if lang == "en" else "en"
            kind = before[0] if before and before[0] in names and before[0] not in ("read", "describe") and rng.random() < 0.3 else rng.choices(names, shares)[0]
            if kind == "read" and reading:
                continue
            made = self.turn(kind, lang, before)
            if made is None:
                continue
            turn, about = made
            if any(turn.question == old.question for old in out):
                continue
            reading += kind == "read"
            out.append(turn)
            before = (kind, about)
        return out


def estranged(conversation: Conversation, sort: str) -> Conversation:
    """The same questions about a picture that is no drawn scene: what is not about the picture keeps its answer."""
    return Conversation(t if t.kind == "chat" else Turn(t.question, w.STRANGERS[sort][t.lang], sort, t.lang) for t in conversation)


def without_picture(rng: random.Random) -> Conversation:
    """A conversation that has no picture: whatever is asked about one is answered by asking for one."""
    out = Conversation()
    out.picture = False
    lang = rng.choice(("en", "zh"))
    for _ in range(rng.choice((1, 1, 2))):
        draw = rng.random()
        if draw < 0.65:
            kind = rng.choice(("describe", "describe", "count", "count", "colour", "position", "read", "read", "yesno", "total", "who_photo"))
            key = rng.choice(list(KINDS))
            slots = w.question_names(key, lang, rng)
            out.append(Turn(w.ask(kind, lang, rng, **slots), w.ANSWERS["no_picture"][lang], "no_picture", lang))
        else:
            key = rng.choice(CHAT)
            out.append(Turn(w.ask(key, lang, rng), w.ANSWERS[key][lang], "chat", lang))
    return out
