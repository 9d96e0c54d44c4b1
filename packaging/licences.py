#!/usr/bin/env python3
"""Prints the licences of all that the program and its page are built from: licences.py TARGET

Each text once, with the crates that came with it; a crate that brings no text is named with its licence.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

FILES = re.compile(r"(licen[cs]e|copying|notice|copyright|unlicense)", re.IGNORECASE)
PRODUCTS = {"glimpse": None, "glimpse-page": "wasm32-unknown-unknown", "glimpse-page-extras": "wasm32-unknown-unknown"}


def packages(target: str) -> list[dict]:
    """What the products link, theirs and ours apart."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    by_id = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    wanted = [name for name, own in PRODUCTS.items() if (own or target) == target]
    stack = [package["id"] for package in metadata["packages"] if package["name"] in wanted and package["source"] is None]
    seen = set(stack)
    while stack:
        for dependency in nodes[stack.pop()]["deps"]:
            linked = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if linked and dependency["pkg"] not in seen:
                seen.add(dependency["pkg"])
                stack.append(dependency["pkg"])
    return [by_id[one] for one in seen if by_id[one]["source"]]


def main(target: str) -> None:
    theirs = {package["id"]: package for one in (target, "wasm32-unknown-unknown") for package in packages(one)}
    texts, bare = defaultdict(list), []
    for package in sorted(theirs.values(), key=lambda package: (package["name"], package["version"])):
        name = f"{package['name']} {package['version']}"
        folder = Path(package["manifest_path"]).parent
        # A C library that a crate brings lies in a folder of its own.
        files = sorted(file for depth in ("*", "*/*") for file in folder.glob(depth) if file.is_file() and FILES.match(file.name))
        for file in files:
            texts[file.read_text(errors="replace").strip()].append(name)
        if not files:
            bare.append(f"{name}: {package['license']} ({package['repository'] or 'https://crates.io'})")
    print(f"Glimpse is built from {len(theirs)} packages of others. Their licences:\n")
    for text, names in sorted(texts.items(), key=lambda entry: entry[1]):
        print("=" * 100, "\n".join(dict.fromkeys(names)), "-" * 100, text, "", sep="\n")
    print("=" * 100, "Without a text of their own:", *bare, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
