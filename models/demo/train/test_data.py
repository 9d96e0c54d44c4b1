"""Tests of the generated data:  python -m unittest test_data  (those of pictures need assets/)."""

import base64
import collections
import io
import random
import unittest

import cv2
import numpy as np
from PIL import Image

import charset
import draw
import strangers
import texts
import vocab
import wordings
from talk import Conversation, Facts, Item, Talker, Turn, cell, estranged
from things import COLOURS, KINDS, SHAPES, THINGS

HAVE_ASSETS = (draw.ASSETS / "fonts" / "fonts.json").exists()


def item(key, colour=None, x=0.5, y=0.5):
    return Item(key, colour, x, y, 0.1, 0.1)


def first(talker, kind, lang, wanted):
    """The first drawn turn of the kind whose question has the wanted word."""
    for _ in range(500):
        made = talker.turn(kind, lang)
        if made and wanted in made[0].question.lower():
            return made[0]
    raise AssertionError(f"no {kind} question with {wanted!r}")


class Names(unittest.TestCase):
    def test_enough_kinds_and_no_name_twice(self):
        self.assertGreaterEqual(len(THINGS), 48)
        self.assertEqual((len(charset.COMMON_500), len(set(charset.CHINESE))), (500, len(charset.CHINESE)))
        for names in ([k.en for k in KINDS.values()], [k.plural for k in KINDS.values()], [n for k in KINDS.values() for n in (k.zh, *k.zh_more)], [e for k in THINGS for e in k.emoji]):
            self.assertEqual([n for n, times in collections.Counter(names).items() if times > 1], [])

    def test_descriptions_have_the_fixed_order_and_grammar(self):
        groups = [("circle", "red", 1), ("apple", None, 1), ("cat", None, 2)]
        self.assertEqual(wordings.describe(groups, [], "en"), "Two cats, an apple and a red circle.")
        self.assertEqual(wordings.describe(groups, [], "zh"), "两只猫、一个苹果和一个红色的圆形。".replace("和", "、"))
        self.assertEqual(wordings.describe([("sheep", None, 3)], ["OPEN"], "en"), "Three sheep and the text “OPEN”.")
        self.assertEqual(wordings.describe([("oval", "orange", 1)], [], "en"), "An orange oval.")

    def test_every_colour_is_told_from_every_other(self):
        rng = random.Random(1)
        drawn = {name: [draw.sample_colour(name, rng) for _ in range(60)] for name in COLOURS}
        for a in COLOURS:
            for b in COLOURS:
                if a < b:
                    least = min(draw.distance(p, q) for p in drawn[a] for q in drawn[b])
                    self.assertGreater(least, 55, f"{a} and {b}")


class Talk(unittest.TestCase):
    def setUp(self):
        self.facts = Facts([item("cat", x=0.2), item("cat", x=0.4), item("dog", x=0.85, y=0.15), item("circle", "red", 0.5, 0.9)])
        self.talker = Talker(self.facts, random.Random(3))

    def test_answers_are_true(self):
        self.assertEqual(first(self.talker, "count", "en", "dogs").answer, "1")
        self.assertEqual(first(self.talker, "count", "zh", "猫").answer, "2")
        self.assertEqual(first(self.talker, "colour", "en", "circle").answer, "Red.")
        self.assertEqual(first(self.talker, "position", "en", "dog").answer, "At the top right.")
        self.assertEqual(first(self.talker, "position", "zh", "狗").answer, "在右上角。")
        self.assertEqual(first(self.talker, "read", "zh", "字").answer, "没有文字。")
        self.assertEqual(first(self.talker, "describe", "zh", "什么").answer, "两只猫、一只狗、一个红色的圆形。")

    def test_yes_and_no(self):
        for _ in range(400):
            turn, about = self.talker.turn("yesno", "en")
            if about and "red" not in turn.question and not any(c in turn.question for c in (*COLOURS, "violet", "grey", "light blue", "turquoise")):
                self.assertEqual(turn.answer, "Yes." if self.facts.count(about) else "No.", turn.question)

    def test_a_place_near_a_border_is_not_asked(self):
        self.assertIsNone(cell(item("cat", x=0.35)))
        self.assertEqual(cell(item("cat", x=0.1, y=0.9)), (0, 2))

    def test_every_pattern_fills_and_every_question_survives_the_tokenizer(self):
        coder, rng = vocab.encoding(), random.Random(5)
        for kind, by_lang in wordings._PATTERNS.items():
            for lang in by_lang:
                for _ in range(200):
                    slots = wordings.question_names(rng.choice(list(KINDS)), lang, rng) | {"Y": "dog", "C": "red", "cX": "red dog", "side": "above"}
                    question = wordings.ask(kind, lang, rng, **slots)
                    self.assertNotRegex(question, r"[{}<>|()]|^$", kind)
                    self.assertEqual(coder.decode(coder.encode(question)), question)

    def test_wordings_are_many(self):
        rng = random.Random(7)
        for kind in ("describe", "count", "colour", "position", "yesno", "read"):
            for lang in ("en", "zh"):
                slots = {"X": "cat", "Xs": "cats", "a": "a", "aX": "cat", "M": "只"}
                self.assertGreater(len({wordings.ask(kind, lang, rng, **slots) for _ in range(1000)}), 150, (kind, lang))


class Strangers(unittest.TestCase):
    def test_sentences_are_in_the_language_of_the_question_and_short(self):
        coder = vocab.encoding()
        for sort, by_lang in wordings.STRANGERS.items():
            self.assertNotRegex(by_lang["en"], r"[^ -~]")
            self.assertRegex(by_lang["zh"], r"^[\u4e00-\u9fff]+.*。$")
            for lang, sentence in by_lang.items():
                self.assertIn("GLM-4V-9B", sentence)
                self.assertEqual(coder.decode(coder.encode(sentence)), sentence)
                self.assertLess(len(coder.encode(sentence)), 45, (sort, lang))

    def test_the_vocabulary_stays_the_stored_checkpoints(self):
        stored = (draw.ASSETS.parents[1] / "tokenizer.model").read_bytes().split()[::2]
        self.assertEqual(stored, [base64.b64encode(token) for token in vocab.ranks()])

    def test_no_other_answer_begins_like_a_strangers(self):
        openings = {by_lang[lang][:4 if lang == "en" else 1] for by_lang in wordings.STRANGERS.values() for lang in by_lang}
        for by_lang in wordings.ANSWERS.values():
            self.assertFalse(by_lang["en"][:4] in openings or by_lang["zh"][:1] in openings)

    def test_whatever_is_asked_but_small_talk_gets_the_sentence(self):
        talk = Conversation([Turn("How many cats?", "2", "count", "en"), Turn("你好", "你好!", "chat", "zh"), Turn("有没有狗", "有。", "yesno", "zh")])
        said = [(t.answer, t.kind) for t in estranged(talk, "photo")]
        self.assertEqual(said, [(wordings.STRANGERS["photo"]["en"], "photo"), ("你好!", "chat"), (wordings.STRANGERS["photo"]["zh"], "photo")])


@unittest.skipUnless(strangers.manifest(), "needs assets/strangers (python assets.py)")
class StrangePictures(unittest.TestCase):
    def test_nothing_trained_on_is_held_out(self):
        split = {s: [m for m in strangers.manifest() if m["split"] == s] for s in ("train", "heldout")}
        for key in ("name", "motif"):
            self.assertFalse({m[key] for m in split["train"]} & {m[key] for m in split["heldout"]}, key)
        looks = {s: [self.look(m["name"]) for m in ms if m["package"] != "rendered"] for s, ms in split.items()}
        for look in looks["heldout"]:
            self.assertGreater(min(np.abs(look - other).mean() for other in looks["train"]), 2)

    @staticmethod
    def look(name):
        return cv2.resize(strangers._load(name)[..., :3], (12, 12), interpolation=cv2.INTER_AREA).astype(np.int16)

    def test_enough_is_held_out_animals_too_and_licences_are_known(self):
        for sort in strangers.SORTS:
            self.assertGreaterEqual(len(strangers.names("heldout", sort)), 60)
        self.assertGreaterEqual(len(strangers.names("heldout", "photo", "photo")), 60)
        self.assertTrue({"red-panda", "giraffe", "owl"} <= {m["motif"] for m in strangers.manifest() if m["split"] == "heldout" and m["kind"] == "photo"})
        self.assertTrue(all(m["licence"] and m["package"] for m in strangers.manifest()))

    def test_all_wear_is_one_function(self):
        from scenes import Generator

        for strange in (0.0, 1.0):
            worn, gen = [], Generator(5, "train", strangers=strange, phone=0.4)
            plain = gen.backgrounds.wear
            gen.backgrounds.wear = lambda rng, picture, sharp, phone: worn.append(phone) or plain(rng, picture, sharp, phone)
            for _ in range(10):
                gen.scene()
            self.assertEqual(worn, [0.4] * 10)

    def test_strangers_get_the_sentence_of_their_sort_in_the_questions_language(self):
        from scenes import Generator

        for split in ("train", "heldout"):
            gen, seen = Generator(2, split, strangers=1.0, phone=0.4), collections.Counter()
            for _ in range(60):
                scene = gen.scene()
                self.assertEqual((scene.image.shape, scene.image.dtype), ((384, 384, 3), np.dtype("uint8")))
                for turn in (t for c in scene.conversations if c.picture for t in c):
                    if turn.kind != "chat":
                        self.assertEqual(turn.answer, wordings.STRANGERS[scene.facts.stranger][turn.lang])
                        seen[turn.kind, turn.lang] += 1
            self.assertEqual(set(seen), {(sort, lang) for sort in strangers.SORTS for lang in ("en", "zh")})
        turn = gen.scene(focus=("photo", "zh"), original=strangers.names("heldout", "photo")[3], whole=True).conversations[0][-1]
        self.assertEqual((turn.kind, turn.lang), ("photo", "zh"))

    def test_without_strangers_scenes_are_as_ever(self):
        from scenes import Generator

        a, b = Generator(4, "train"), Generator(4, "train", strangers=0.0, phone=0.0)
        self.assertTrue(all(np.array_equal(a.scene().image, b.scene().image) for _ in range(5)))


class Vocabulary(unittest.TestCase):
    def test_printed_strings_stay_letter_by_letter(self):
        coder = vocab.encoding()
        for text in ("Kx39itis", "QWERTY", "zon8at", "ISNOTIN"):
            self.assertEqual(len(coder.encode(text)), len(text), text)
        for text in ("的一是不", "欢迎光临"):
            self.assertEqual(len(coder.encode(text)), len(text), text)

    def test_special_tokens_follow_the_ranks(self):
        ranks = vocab.ranks()
        self.assertEqual(sorted(ranks.values()), list(range(len(ranks))))
        self.assertEqual(list(vocab.special_ids(ranks).values()), list(range(len(ranks), len(ranks) + len(vocab.SPECIAL))))


@unittest.skipUnless(HAVE_ASSETS, "needs assets/ (python assets.py)")
class Pictures(unittest.TestCase):
    def setUp(self):
        from scenes import Generator

        self.make = Generator

    def test_same_seed_same_scenes(self):
        for split in ("train", "heldout"):
            a, b = self.make(4, split), self.make(4, split)
            for _ in range(12):
                x, y = a.scene(), b.scene()
                self.assertTrue(np.array_equal(x.image, y.image))
                self.assertEqual(x.conversations, y.conversations)
                self.assertEqual((x.image.shape, x.image.dtype), ((384, 384, 3), np.dtype("uint8")))

    def test_held_out_fonts_and_texts_are_strangers(self):
        for script in ("latin", "chinese"):
            names = [{path.rsplit("/", 1)[1] for path, _ in draw.fonts(split, script)} for split in ("train", "heldout")]
            self.assertFalse(names[0] & names[1])
            printed = []
            for split in ("train", "heldout"):
                maker, rng = texts.Texts(split), random.Random(2)
                printed.append({line for _ in range(3000) for line in maker.lines(rng, script) if len(line) > 1})
            self.assertFalse(printed[0] & printed[1])

    def test_texts_keep_their_length(self):
        maker, rng = texts.Texts("train"), random.Random(9)
        for _ in range(2000):
            self.assertTrue(all(len(line) <= 12 for line in maker.lines(rng, "latin")))
            self.assertTrue(all(len(line) <= 6 for line in maker.lines(rng, "chinese")))

    def test_hard_scenes_are_what_is_hard_and_held_out_texts_stay_strangers(self):
        gen, kinds = self.make(3, "train", hard=1.0), collections.Counter()
        for _ in range(60):
            scene = gen.scene()
            kinds[scene.kind] += 1
            if scene.kind == "name":
                self.assertEqual(len(scene.facts.groups()), 1)
            elif scene.kind == "count_hard":
                self.assertGreaterEqual(max(n for _, _, n in scene.facts.groups()), 3)
            else:
                self.assertTrue(all(texts._split(line) == "train" for line in scene.facts.texts if len(line) > 1))
                self.assertGreaterEqual(sum(map(len, scene.facts.texts)), 6)
        self.assertEqual(set(kinds), {"name", "count_hard", "read_hard"})

    def test_focus_gives_the_kind_and_language(self):
        gen = self.make(6, "heldout")
        for kind in ("describe", "count", "colour", "position", "yesno", "read_latin", "read_chinese"):
            for lang in ("en", "zh"):
                turn = gen.scene(focus=(kind, lang)).conversations[0][-1]
                self.assertEqual((turn.kind, turn.lang), (kind, lang))

    def test_full_size_is_a_picture_of_its_own(self):
        scene = self.make(8, "heldout").scene(full=True)
        picture = Image.open(io.BytesIO(scene.full)).convert("RGB")
        self.assertGreaterEqual(max(picture.size), 639)
        again = np.asarray(picture.resize((384, 384), Image.Resampling.BICUBIC))
        self.assertTrue(np.array_equal(again, scene.image))


if __name__ == "__main__":
    unittest.main()
