"""Builds assets/ (emoji sprites, fonts, word lists: all that scenes.py draws with; photographs and other strangers) from packages.

    python assets.py            # needs a Debian-like machine with apt, npm, pip and chromium

Sources: Debian font packages (downloaded and unpacked, not installed), Noto Color Emoji (OFL), Twemoji
(CC-BY 4.0, npm), four OFL Chinese fonts of Fontsource (npm), the word lists of wamerican-small (public
domain) and jieba (MIT). Fonts are cut down to the characters that are printed, so the folder stays small.
"""

import glob
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import strangers_assets
from charset import CHINESE
from things import SHAPES, THINGS

HERE = Path(__file__).resolve().parent
ASSETS = HERE / "assets"
ASCII = "".join(chr(c) for c in range(32, 127)) + "£€"

DEBIAN = """fonts-noto-color-emoji fonts-dejavu-core fonts-dejavu-extra fonts-liberation fonts-open-sans
fonts-roboto-unhinted fonts-lato fonts-cantarell fonts-urw-base35 fonts-comic-neue fonts-inconsolata fonts-hack
fonts-firacode fonts-ebgaramond fonts-crosextra-carlito fonts-crosextra-caladea fonts-quicksand fonts-dosis
fonts-vollkorn fonts-courier-prime fonts-karla fonts-cabin fonts-go fonts-sil-gentium-basic fonts-linuxlibertine
fonts-cmu fonts-league-spartan fonts-paratype fonts-play fonts-averia-sans-gwf fonts-averia-serif-gwf fonts-b612
fonts-humor-sans fonts-oxygen fonts-inter fonts-manrope fonts-jetbrains-mono fonts-sil-andika fonts-roboto-slab
fonts-comfortaa fonts-sil-charis fonts-freefont-ttf fonts-jura fonts-tuffy fonts-noto-cjk fonts-noto-cjk-extra
fonts-wqy-zenhei fonts-wqy-microhei fonts-arphic-uming fonts-arphic-ukai fonts-lxgw-wenkai fonts-smiley-sans
fonts-junction fonts-century-catalogue fonts-quattrocento fonts-allerta fonts-yanone-kaffeesatz fonts-sjfonts
fonts-tomsontalks fonts-noto-core wamerican-small""".split()
NPM = ["@twemoji/svg@15.0.0"] + [
    f"@fontsource/{name}@5.3.0" for name in ("zcool-xiaowei", "zcool-qingke-huangyou", "zcool-kuaile", "ma-shan-zheng")
]
PIP = ["jieba==0.42.1"]

# Fonts by split: whole families on one side only, so the held-out fonts are strangers to the model.
LATIN_FONTS = {
    "train": """DejaVuSans.ttf DejaVuSans-Bold.ttf DejaVuSans-Oblique.ttf DejaVuSansCondensed.ttf DejaVuSansMono.ttf
DejaVuSansMono-Bold.ttf DejaVuSerif.ttf DejaVuSerif-Bold.ttf LiberationSans-Regular.ttf LiberationSans-Bold.ttf
LiberationSans-Italic.ttf LiberationSerif-Regular.ttf LiberationSerif-Bold.ttf LiberationSerif-Italic.ttf
LiberationMono-Regular.ttf LiberationMono-Bold.ttf LiberationSansNarrow-Bold.ttf Roboto-Regular.ttf Roboto-Bold.ttf Roboto-Light.ttf
Roboto-Black.ttf RobotoCondensed-Regular.ttf RobotoCondensed-Bold.ttf RobotoSlab-Regular.otf RobotoSlab-Bold.otf
Lato-Regular.ttf Lato-Bold.ttf Lato-Black.ttf Lato-Light.ttf Lato-Italic.ttf Cantarell-Regular.otf Cantarell-Bold.otf
NimbusRoman-Regular.otf NimbusRoman-Bold.otf NimbusSansNarrow-Regular.otf NimbusMonoPS-Bold.otf C059-Roman.otf C059-Bold.otf
P052-Roman.otf P052-Bold.otf P052-Italic.otf URWBookman-Light.otf URWBookman-Demi.otf URWGothic-Book.otf URWGothic-Demi.otf
ComicNeue-Regular.otf ComicNeue-Bold.otf Inconsolata.otf Hack-Regular.ttf FiraCode-Regular.ttf FiraCode-Bold.ttf
EBGaramond12-Regular.otf EBGaramond12-Bold.otf Caladea-Regular.ttf Caladea-Bold.ttf Quicksand-Regular.ttf Quicksand-Bold.ttf
Dosis-Book.otf Dosis-Bold.otf Vollkorn-Regular.ttf Vollkorn-Bold.ttf Karla-Regular.otf Karla-Bold.otf
Go-Regular.ttf Go-Bold.ttf Go-Mono.ttf LinLibertine_R.otf LinLibertine_RB.otf LinBiolinum_R.otf cmunrm.ttf cmunbx.ttf cmunss.ttf
LeagueSpartan-Regular.otf LeagueSpartan-Bold.otf Play-Regular.ttf Play-Bold.ttf AveriaSansGWF-Regular.ttf AveriaSansGWF-Bold.ttf
AveriaSerifGWF-Regular.ttf AveriaSerifGWF-Bold.ttf B612-Regular.otf B612Mono-Bold.otf Humor-Sans.ttf Oxygen-Sans.ttf
Oxygen-Sans-Bold.ttf Manrope-Medium.ttf Manrope-ExtraBold.ttf JetBrainsMono-Regular.ttf Andika-Regular.ttf Andika-Bold.ttf
CharisSIL-Regular.ttf CharisSIL-Bold.ttf FreeSerif.ttf FreeSansBold.ttf FreeMonoBold.ttf Jura-Medium.otf Tuffy.ttf Tuffy_Bold.ttf
NotoSans-Regular.ttf NotoSans-Bold.ttf NotoSerif-Regular.ttf NotoSerif-Bold.ttf NotoSans-Italic.ttf Century-Catalogue.ttf
Quattrocento-Regular.otf YanoneKaffeesatz-Regular.otf YanoneKaffeesatz-Bold.otf SteveHand.ttf TomsonTalks.ttf
allerta_medium.otf""".split(),
    "heldout": """OpenSans-Regular.ttf OpenSans-Bold.ttf OpenSans-Semibold.ttf PTS55F.ttf PTS75F.ttf PTF55F.ttf PTF75F.ttf
PTM55F.ttf Inter-Regular.otf Inter-Bold.otf Inter-Medium.otf GenBasR.ttf GenBasB.ttf Carlito-Regular.ttf Carlito-Bold.ttf
Cabin-Regular.otf Cabin-Bold.otf Comfortaa-Bold.ttf Junction.otf""".split() + ["Courier Prime.otf", "Courier Prime Bold.otf"],
}
CHINESE_FONTS = {  # file, face in the collection
    "train": [(f"NotoSansCJK-{w}.ttc", "SC") for w in ("Light", "Regular", "Medium", "Bold", "Black")]
    + [(f"NotoSerifCJK-{w}.ttc", "SC") for w in ("Light", "Regular", "SemiBold", "Bold", "Black")]
    + [("wqy-microhei.ttc", 0), ("ukai.ttc", 0), ("SmileySans-Oblique.ttf", None)]
    + [(f"{n}-chinese-simplified-400-normal.woff2", None) for n in ("zcool-xiaowei", "zcool-qingke-huangyou", "zcool-kuaile", "ma-shan-zheng")],
    "heldout": [("wqy-zenhei.ttc", 0), ("uming.ttc", 0), ("LXGWWenKai-Regular.ttf", None), ("LXGWWenKai-Bold.ttf", None)],
}


def run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)


def fetch(to: Path) -> None:
    """Downloads and unpacks every package under `to` (what is there already is kept)."""
    to.mkdir(parents=True, exist_ok=True)
    if not list(to.glob("*.deb")) or not (to / "x").exists() or not list(to.glob("wamerican*")):
        run("apt-get", "download", *DEBIAN, cwd=to)
        for deb in to.glob("*.deb"):
            run("dpkg", "-x", str(deb), "x", cwd=to)
    for name in NPM:
        folder = to / "npm" / name.strip("@").replace("/", "-")
        if not folder.exists():
            folder.mkdir(parents=True)
            run("npm", "pack", "--silent", name, cwd=folder)
            run("tar", "xzf", next(folder.glob("*.tgz")).name, cwd=folder)
    if not (to / "pip").exists():
        run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", "pip", *PIP, cwd=to)


def cut(font_path: str, face, characters: str, out: Path) -> list[str]:
    """Writes the font with only `characters`, without hints and features; returns the characters it has."""
    from fontTools import subset
    from fontTools.ttLib import TTCollection, TTFont

    number = -1
    if isinstance(face, int):
        number = face
    elif face:
        names = [f["name"].getDebugName(1) or "" for f in TTCollection(font_path, lazy=True).fonts]
        number = next(i for i, n in enumerate(names) if face in n.split() and "Mono" not in n)
    font = TTFont(font_path, fontNumber=number, lazy=True)
    have = [c for c in characters if ord(c) in font.getBestCmap()]
    options = subset.Options(hinting=False, layout_features=["kern"], notdef_outline=True, name_IDs=[1, 2], desubroutinize=False)
    options.drop_tables += ["DSIG", "GPOS", "GSUB", "vhea", "vmtx", "VORG", "BASE", "FFTM", "PfEd", "TeX", "BDF ", "bdat", "bloc", "EBDT", "EBLC"]
    cutter = subset.Subsetter(options)
    cutter.populate(text="".join(have))
    cutter.subset(font)
    font.flavor = None
    font.save(out)
    return have


def fonts(source: Path) -> None:
    by_name = {Path(p).name: p for p in glob.glob(f"{source}/**/*.*", recursive=True) if p.endswith((".ttf", ".otf", ".ttc", ".woff2"))}
    listing = {}
    for split in ("train", "heldout"):
        folder = ASSETS / "fonts" / split
        folder.mkdir(parents=True)
        listing[split] = {"latin": {}, "chinese": {}}
        jobs = [("latin", name, None, ASCII) for name in LATIN_FONTS[split]]
        jobs += [("chinese", name, face, CHINESE + ASCII) for name, face in CHINESE_FONTS[split]]
        for script, name, face, characters in jobs:
            out = folder / (Path(name).stem.replace(" ", "") + ".otf")
            have = set(cut(by_name[name], face, characters, out))
            missing = "".join(c for c in characters if c not in have and c != " ")
            listing[split][script][out.name] = missing
            if len(missing) > 10:
                print(f"{out.name}: {len(missing)} characters missing")
    (ASSETS / "fonts" / "fonts.json").write_text(json.dumps(listing, ensure_ascii=False, indent=1))


def sprites(source: Path) -> None:
    import cairosvg
    from fontTools.ttLib import TTFont
    from PIL import Image

    noto = TTFont(next(source.glob("x/**/NotoColorEmoji.ttf")))
    cmap, strike = noto.getBestCmap(), noto["CBDT"].strikeData[0]
    twemoji = next(source.glob("npm/*twemoji*/package/svg"), None) or next(source.glob("npm/*twemoji*/package"))
    svgs = {p.stem: p for p in twemoji.rglob("*.svg")}
    folder = ASSETS / "sprites"
    folder.mkdir(parents=True)
    listing: dict[str, list[str]] = {}
    for kind in THINGS:
        listing[kind.key] = []
        for emoji in kind.emoji:
            code = f"{ord(emoji):x}"
            pictures = {"noto": strike[cmap[ord(emoji)]].imageData}
            pictures["twemoji"] = cairosvg.svg2png(url=str(svgs[code]), output_width=144, output_height=144)
            for family, data in pictures.items():
                picture = Image.open(io.BytesIO(data)).convert("RGBA")
                picture = picture.crop(picture.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())
                name = f"{code}-{family}.png"
                picture.save(folder / name, optimize=True)
                listing[kind.key].append(name)
    (folder / "sprites.json").write_text(json.dumps(listing, indent=1))


def words(source: Path) -> None:
    english = next(source.glob("x/usr/share/dict/american*")).read_text().split()
    english = sorted({w.lower() for w in english if w.isascii() and w.isalpha() and 3 <= len(w) <= 12})
    (ASSETS / "words_en.txt").write_text("\n".join(english))
    known, chinese = set(CHINESE), []
    for line in (source / "pip" / "jieba" / "dict.txt").read_text(encoding="utf-8").splitlines():
        word, count, _ = line.split(" ")
        if 2 <= len(word) <= 6 and set(word) <= known and int(count) >= 20:
            chinese.append(word)
    (ASSETS / "words_zh.txt").write_text("\n".join(sorted(chinese)), encoding="utf-8")


def main() -> None:
    kept = os.environ.get("DEMO_PACKAGES")
    source = Path(kept or tempfile.mkdtemp(prefix="demo-assets-"))
    fetch(source)
    if ASSETS.exists():
        shutil.rmtree(ASSETS)
    ASSETS.mkdir()
    sprites(source)
    words(source)
    fonts(source)
    strangers_assets.build(source / "strangers", ASSETS / "strangers")
    size = sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file())
    print(f"{ASSETS}: {size / 2**20:.1f} MiB; {len(THINGS)} things, {len(SHAPES)} shapes, {len(CHINESE)} Chinese characters")
    if not kept:
        shutil.rmtree(source)


if __name__ == "__main__":
    main()
