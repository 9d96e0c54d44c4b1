#!/usr/bin/env python3
"""Puts the page together: bundle.py BOUND OUT

BOUND holds what wasm-bindgen and wasm-opt made of the page's modules, OUT gets the page, in place of what was there. What belongs
to it stands in frontend/index.html, as links for trunk: `trunk serve` reads the same ones. Whatever may be kept for ever gets a
name that changes with it, and the service worker is told its build and the files that it keeps.
"""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

PAGE = "glimpse-page"
EXTRAS = "glimpse-page-extras"
LINK = re.compile(r"<link data-trunk ([^>]*?)/?>")
ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')

# What is loaded at once is asked for while the page is read; the module starts when that has come.
START = """<script type="module">
import init from "./{name}.js";
await init({{ module_or_path: "./{name}_bg.wasm" }});
</script>"""
PRELOAD = (
    '<link rel="modulepreload" href="./{name}.js" crossorigin="anonymous" />'
    '<link rel="preload" href="./{name}_bg.wasm" crossorigin="anonymous" as="fetch" type="application/wasm" />\n  </head>'
)


def digest(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def put_once(text: str, old: str, new: str) -> str:
    """With `old` replaced, which has to be there: a page without it would be built and not work."""
    if text.count(old) != 1:
        raise SystemExit(f"glimpse: the page has {old!r} {text.count(old)} times, where once is expected.")
    return text.replace(old, new)


class Bundle:
    def __init__(self, index: Path, bound: Path, out: Path):
        self.folder, self.bound, self.out = index.parent, bound, out
        self.names: dict[str, str] = {}
        self.html = LINK.sub(lambda link: self.asset(dict(ATTRIBUTE.findall(link[1]))), index.read_text())

    def asset(self, link: dict[str, str]) -> str:
        """Puts what a link names into the page's folder, and returns what stands in the link's place."""
        source = self.folder / link["href"]
        match link["rel"]:
            case "inline":
                return f"<style>{source.read_text()}</style>"
            case "css":
                content = source.read_bytes()
                name = f"{source.stem}-{digest(content)}.css"
                (self.out / name).write_bytes(content)
                return f'<link rel="stylesheet" href="./{name}" />'
            case "copy-file":
                shutil.copyfile(source, self.out / source.name)
                return ""
            case "copy-dir":
                shutil.copytree(source, self.out / source.name, copy_function=shutil.copyfile)
                return ""
            case "rust" if link.get("data-type") == "worker":
                self.module(EXTRAS)
                return ""
            case "rust":
                return START.format(name=self.module(PAGE))
            case kind:
                raise SystemExit(f"glimpse: frontend/index.html has a link of the kind {kind!r}, which bundle.py doesn't know.")

    def module(self, crate: str) -> str:
        script = (self.bound / f"{crate}.js").read_text()
        binary = (self.bound / f"{crate}_bg.wasm").read_bytes()
        name = f"{crate}-{digest(script.encode(), binary)}"
        (self.out / f"{name}.js").write_text(put_once(script, f"{crate}_bg.wasm", f"{name}_bg.wasm"))
        (self.out / f"{name}_bg.wasm").write_bytes(binary)
        self.names[crate] = name
        return name

    def finish(self) -> None:
        html = put_once(self.html, "</head>", PRELOAD.format(name=self.names[PAGE]))
        html = put_once(html, f"{EXTRAS}.js", f"{self.names[EXTRAS]}.js")
        files = sorted(file.relative_to(self.out).as_posix() for file in self.out.rglob("*") if file.is_file())
        build = digest(html.encode(), *(name.encode() + (self.out / name).read_bytes() for name in files))
        worker = self.out / "sw.js"
        kept = sorted([name for name in files if name != "sw.js"] + ["index.html"])
        text = put_once(worker.read_text(), 'const VERSION = ""', f'const VERSION = "{build}"')
        worker.write_text(put_once(text, "const FILES = []", f"const FILES = {json.dumps(kept)}"))
        # Last: until it is there, there is no page, so that one left half done is built again.
        (self.out / "index.html").write_text(put_once(html, 'const build = ""', f'const build = "{build}"'))


def main(bound: Path, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    Bundle(Path("frontend/index.html"), bound, out).finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
