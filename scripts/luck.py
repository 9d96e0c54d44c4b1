#!/usr/bin/env python3
"""Runs tests again and again, alone and beside busy loops, and prints which failed how often: a test that fails by luck is wrong.

    .venv/bin/python scripts/luck.py [N] [ARGUMENTS of pytest]

N runs alone and N beside (10 unless told), of the socket and browser suites or of what the arguments name. Nothing stops at a
failure. Each failed run's output stays in target/luck. Exit status 1 if anything failed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "target/luck"
# The browser's tests are apart: Playwright leaves an event loop running, beside which others can't start theirs.
SUITES = [["-n", "4", "--dist", "loadfile", "tests", "--ignore", "tests/browser", "--ignore", "tests/everywhere"],
          ["-n", "4", "--dist", "loadfile", "tests/browser"], ["-n", "3", "tests/everywhere"]]
LOOPS = 2
# It ends by itself with who started it.
LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"


def failures(arguments: list[str], log: Path) -> list[str]:
    """Of one run: the tests that failed, or the run itself where it came to no end."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *arguments, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    with log.open("w") as out:
        status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT).returncode
    failed = []
    if report.exists():
        for case in xml.parse(report).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(f"{case.get('classname')}::{case.get('name')}")
        report.unlink()
    if status == 0:
        log.unlink()
    return failed or ([f"pytest {shlex.join(arguments)} (status {status})"] if status else [])


def main() -> int:
    arguments = sys.argv[1:]
    count = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else 10
    suites = [arguments] if arguments else SUITES
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    ways = {"alone": 0, "beside": LOOPS}
    failed = {way: Counter() for way in ways}
    for way, loops in ways.items():
        busy = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(loops)]
        try:
            for number in range(1, count + 1):
                for suite, arguments in enumerate(suites, 1):
                    began = time.monotonic()
                    found = failures(arguments, OUT / f"{way}-{number}-{suite}.log")
                    failed[way].update(set(found))
                    said = ", ".join(found) or "passed"
                    print(f"{way} {number} of {count}, pytest {shlex.join(arguments)}: {time.monotonic() - began:.0f} s, {said}", flush=True)
        finally:
            for each in busy:
                each.kill()
                each.wait()
    names = sorted(set().union(*failed.values()), key=lambda name: (-sum(f[name] for f in failed.values()), name))
    if not names:
        print(f"No test failed in {count} runs alone and {count} beside {LOOPS} busy loops.")
        return 0
    print(f"\nFailed, of {count} runs alone and {count} beside {LOOPS} busy loops (what was said is in {OUT.relative_to(ROOT)}):\n")
    print(f"{'alone':>6} {'beside':>6}  test")
    for name in names:
        print(f"{failed['alone'][name]:>6} {failed['beside'][name]:>6}  {name}")
    return 1


if __name__ == "__main__":
    os.environ.setdefault("GLIMPSE_BIN", str(ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/glimpse"))
    sys.exit(main())
