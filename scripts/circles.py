#!/usr/bin/env python3
"""Finds circles of imports between Rust files of different folders, and says what ties each.

    scripts/circles.py [--strict NAME] FOLDER…     each the folder of a crate, with src/ in it

Below folders called NAME files of one folder must not do so either. A module's own file stands with its folder: `resize.rs` with `resize/`. An import through `pub use` counts for the file that it
comes from. Tests may import what they like. Exit status 1 if there is a circle.
"""

import re
import sys
from pathlib import Path

# And whatever may hold what only looks like code.
COMMENT = re.compile(r"""//[^\n]*|/\*.*?\*/|\br(#*)".*?"\1|'(?:\\.[^']*|[^'\\])'|"(?:\\.|[^"\\])*\"""", re.S)
MOD = re.compile(r'((?:#\[[^\]]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*(;|\{)')
# A statement that only tests have; a module that only they have is left out by `read`.
TESTED = re.compile(r"#\[cfg\(test\)\]\s*(?!(?:pub(?:\([^)]*\))?\s+)?mod\s)[^;{}]*;")
USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])[a-z_]\w*(?:::\w+)+")


def block(text, start):
    """Where the block whose brace opens before `start` ends."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at + 1
    return len(text)


def leaves(tree, prefix=()):
    """The paths of a use tree, each with the name that it gets here."""
    tree = tree.strip()
    if "{" in tree:
        head, rest = tree.split("{", 1)
        inner, depth, part = rest[: rest.rindex("}")], 0, ""
        prefix += tuple(s for s in head.strip().split("::") if s)
        for char in inner + ",":
            depth += {"{": 1, "}": -1}.get(char, 0)
            if char == "," and depth == 0:
                if part.strip():
                    yield from leaves(part, prefix)
                part = ""
            else:
                part += char
        return
    path, _, name = tree.partition(" as ")
    path = prefix + tuple(path.strip().split("::"))
    if path[-1] == "self":
        path = path[:-1]
    yield path, (name.strip() or path[-1])


class Crate:
    def __init__(self, folder):
        self.files = {}  # module path -> file
        self.text = {}  # module path -> source, without tests, comments and strings
        self.names = {}  # module path -> name -> path that it stands for
        src = folder / "src"
        root = next(src / name for name in ("lib.rs", "main.rs") if (src / name).exists())
        self.read((), root, src)
        for module in self.text:
            self.names[module] = {}
            for public, tree in USE.findall(self.text[module]):
                for path, name in leaves(tree):
                    self.names[module][name] = path

    def read(self, module, file, folder):
        text = TESTED.sub("", COMMENT.sub("", file.read_text()))
        at, kept = 0, []
        while match := MOD.search(text, at):
            attributes, name, how = match.groups()
            kept.append(text[at : match.start()])
            end = match.end() if how == ";" else block(text, match.end())
            test = "cfg(test)" in attributes
            if how == ";" and not test:
                inner = folder if file.name in ("lib.rs", "main.rs", "mod.rs") else folder / file.stem
                inner = inner if inner.is_dir() else folder
                for path, below in ((inner / f"{name}.rs", inner), (inner / name / "mod.rs", inner / name)):
                    if path.exists():
                        self.read(module + (name,), path, below)
            elif how == "{" and not test:
                kept.append(text[match.end() : end])
            at = end
        kept.append(text[at:])
        self.files[module], self.text[module] = file, "".join(kept)

    def resolve(self, module, path, seen=()):
        """The module whose file a path leads to from `module`; None if it leads out of the crate."""
        if path[0] == "crate":
            here, rest = (), path[1:]
        elif path[0] in ("self", "super"):
            here, rest = module, path
            while rest and rest[0] in ("self", "super"):
                here, rest = (here[:-1], rest[1:]) if rest[0] == "super" else (here, rest[1:])
        elif module + path[:1] in self.files or path[0] in self.names[module]:
            here, rest = module, path
        else:
            return None
        for step, name in enumerate(rest):
            if here + (name,) in self.files:
                here += (name,)
                continue
            alias = self.names.get(here, {}).get(name)
            if alias and (here, name) not in seen and alias != (name,):
                found = self.resolve(here, alias + rest[step + 1 :], seen + ((here, name),))
                return found if found is not None else None if alias[0] not in ("crate", "self", "super") else here
            break
        return here

    def arrows(self):
        """From file to file, with what is imported."""
        found = {}
        for module, text in self.text.items():
            # What is handed on is no need of its own.
            paths = [path for public, tree in USE.findall(text) if not public for path, _ in leaves(tree)]
            paths += [tuple(match.split("::")) for match in PATH.findall(USE.sub("", text))]
            for path in paths:
                target = self.resolve(module, path)
                if target is not None and self.files[target] != self.files[module]:
                    found.setdefault((self.files[module], self.files[target]), set()).add(path[-1])
        return found


def home(file):
    """The folder that a file stands in: its own, where it is a module with one that has more than tests."""
    own = file.with_suffix("")
    inner = {one.name for one in own.iterdir()} if own.is_dir() else set()
    return own if inner - {"tests.rs", "tests"} else file.parent


def circles(arrows):
    """Groups of files that reach each other (Tarjan's algorithm)."""
    graph = {}
    for a, b in arrows:
        graph.setdefault(a, []).append(b)
        graph.setdefault(b, [])
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            group = set()
            while node not in group:
                group.add(stack.pop())
            if len(group) > 1:
                found.append(group)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def main():
    folders, strict = sys.argv[1:], None
    if folders[:1] == ["--strict"]:
        strict, folders = folders[1], folders[2:]
    wrong = 0
    for folder in map(Path, folders):
        crate = Crate(folder)
        arrows = crate.arrows()
        for group in circles(arrows):
            if len({home(file) for file in group}) == 1 and not all(strict in file.parts for file in group):
                continue
            wrong += 1
            print(f"A circle of {len(group)} files in {folder}:")
            for (a, b), names in sorted(arrows.items()):
                if a in group and b in group:
                    print(f"  {a.relative_to(folder)} -> {b.relative_to(folder)}: {', '.join(sorted(names))}")
    if wrong:
        sys.exit("Files of different folders must not import each other in a circle, nor any where there must be none at all: "
                 "move what both need below both.")


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    main()
