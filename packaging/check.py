#!/usr/bin/env python3
"""Checks what `make dist` made: check.py FOLDER VERSION GLIBC

That every program needs no newer C library than GLIBC, nor any other library that not every Linux has; that it runs; that archives
and package hold what they should; that the SBOM is one; that the sums are right. One line for each, and status 1 if any is wrong.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

# What belongs to the C library itself.
LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "ld-linux-x86-64.so.2"}
IN_ARCHIVE = {"glimpse", "README.md", "README.zh.md", "LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY.txt", "glimpse.service"}
IN_PACKAGE = {
    "./usr/bin/glimpse",
    "./etc/default/glimpse",
    "./usr/share/man/man1/glimpse.1.gz",
    "./usr/share/man/man1/glimpse-serve.1.gz",
    "./usr/share/doc/glimpse/copyright",
    "./usr/share/doc/glimpse/LICENSE-APACHE",
    "./usr/share/doc/glimpse/THIRD-PARTY.txt",
}
# Where systemd looks, before and after /lib became a link.
UNITS = {"./lib/systemd/system/glimpse.service", "./usr/lib/systemd/system/glimpse.service"}

failed = False


def tell(what: str, problem: str = "") -> None:
    global failed
    failed |= bool(problem)
    print(f"{'wrong' if problem else 'right'}  {what}{': ' if problem else ''}{problem}")


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def newest(symbols: str) -> tuple[int, ...]:
    """The newest version of the C library that a table of dynamic symbols names."""
    versions = re.findall(r"\(?GLIBC_(\d+(?:\.\d+)+)\)?", symbols)
    return max((tuple(map(int, version.split("."))) for version in versions), default=(0,))


def program(name: str, file: Path, version: str, glibc: str) -> None:
    allowed = tuple(map(int, glibc.split(".")))
    needs = newest(output("objdump", "-T", str(file)))
    written = ".".join(map(str, needs))
    tell(f"{name}: needs glibc {written}", f"{glibc} at most is promised" if needs > allowed else "")
    libraries = set(re.findall(r"NEEDED\s+(\S+)", output("objdump", "-p", str(file))))
    tell(f"{name}: libraries", ", ".join(sorted(libraries - LIBRARIES)))
    said = output(str(file), "--version").strip()
    tell(f"{name}: says {said!r}", "" if said == f"glimpse {version}" else f"glimpse {version} was expected")


def archive(path: Path, version: str, glibc: str) -> None:
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path) as tar:
        tar.extractall(folder, filter="data")
        root = Path(folder) / path.name.removesuffix(".tar.gz")
        there = {file.name for file in root.iterdir()} if root.is_dir() else set()
        tell(f"{path.name}: what is in it", " ".join(sorted(IN_ARCHIVE ^ there)))
        if "glimpse" in there:
            program(path.name, root / "glimpse", version, glibc)


def package(path: Path, version: str, glibc: str) -> None:
    fields = dict(line.split(": ", 1) for line in output("dpkg-deb", "-f", str(path)).splitlines() if ": " in line)
    expected = {"Package": "glimpse", "Architecture": "amd64", "Depends": f"libc6 (>= {glibc})"}
    tell(f"{path.name}: fields", ", ".join(f"{key} is {fields.get(key)!r}" for key in expected if fields.get(key) != expected[key]))
    tell(f"{path.name}: version", "" if fields.get("Version", "").startswith(version) else fields.get("Version", "none"))
    files = {line.split()[5] for line in output("dpkg-deb", "-c", str(path)).splitlines() if not line.split()[5].endswith("/")}
    missing = IN_PACKAGE - files
    tell(f"{path.name}: what is in it", " ".join(sorted(missing)) or ("" if files & UNITS else "no unit for systemd"))
    with tempfile.TemporaryDirectory() as folder:
        output("dpkg-deb", "-x", str(path), folder)
        program(path.name, Path(folder) / "usr/bin/glimpse", version, glibc)


def sbom(path: Path, version: str) -> None:
    document = json.loads(path.read_text())
    itself = document.get("metadata", {}).get("component", {})
    problem = ""
    if document.get("bomFormat") != "CycloneDX" or not document.get("specVersion"):
        problem = "it is no CycloneDX document"
    elif (itself.get("name"), itself.get("version")) != ("glimpse", version):
        problem = f"it is about {itself.get('name')} {itself.get('version')}"
    else:
        components = document.get("components", [])
        names = {component["name"] for component in components}
        bare = [component["name"] for component in components if not component.get("version")]
        known = {"candle-core", "actix-web", "glimpse-gateway"} - names
        problem = f"not there: {' '.join(known)}" if known else f"without a version: {' '.join(bare)}" if bare else ""
        if {edge["ref"] for edge in document.get("dependencies", [])} - {component["bom-ref"] for component in [*components, itself]}:
            problem = problem or "a dependency is none of its components"
    tell(f"{path.name}: {len(document.get('components', []))} components", problem)


def sums(folder: Path) -> None:
    listed = {}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        listed[name] = digest
    there = {file.name for file in folder.iterdir() if file.is_file()} - {"SHA256SUMS"}
    tell("SHA256SUMS: names", " ".join(sorted(there ^ set(listed))))
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    tell("SHA256SUMS: sums", (checked.stdout + checked.stderr).strip())


def main(folder: Path, version: str, glibc: str) -> int:
    archives = sorted(folder.glob("*.tar.gz"))
    tell("there are archives", "" if archives else f"none in {folder}")
    for path in archives:
        archive(path, version, glibc)
    for path in sorted(folder.glob("*.deb")):
        package(path, version, glibc)
    for path in sorted(folder.glob("*.cdx.json")):
        sbom(path, version)
    if (folder / "SHA256SUMS").exists():
        sums(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
