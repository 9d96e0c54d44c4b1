"""`glimpse bench` from its command line to its report, each kind of measurement once, and small."""

import json
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--random-weights", "1", "--config", str(ROOT / "tests/data/tiny.config.json"), "--max-new-tokens", "8")
QUICK = ("--cold", "0", "--before", "none")


@pytest.fixture
def bench(binary, tmp_path):
    """`bench(*flags)` runs it to its end and reads the report; `status` is the exit status that it must have."""

    class Bench:
        out = tmp_path / "report"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GLIMPSE_", "OTEL_"))}

        def command(self, *flags) -> list[str]:
            return [str(binary), "bench", "--out", str(self.out), *map(str, flags)]

        def __call__(self, *flags, status: int = 0) -> dict:
            run = subprocess.run(self.command(*flags), env=self.clean, capture_output=True, text=True, timeout=500)
            assert run.returncode == status, run.stdout + run.stderr
            self.stdout, self.stderr = run.stdout, run.stderr
            report = self.out / "report.json"
            return json.loads(report.read_text()) if report.exists() else {}

    return Bench()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures of two formats."""
    path = tmp_path / "pictures"
    path.mkdir()
    with Image.open(ROOT / "public/samples/shapes.jpg") as image:
        image.resize((320, 240)).save(path / "a.jpg")
        image.resize((240, 320)).save(path / "b.png")
    return path


def test_each_switch_alone_and_all_together_beside_everything_on(bench, folder):
    report = bench(*TINY, "--runs", 2, "--cold", 1, "--image", folder)
    flags = {variant["name"]: variant["flags"] for variant in report["variants"]}
    assert flags == {
        "everything on": "",
        "no eager encoding": "--eager-encode off",
        "no prefix cache": "--prefix-cache off",
        "no warm-up": "--warmup off",
        "portable decoder": "--image-decoder portable",
        "one at a time": "--max-batch 1",
        "everything off": " ".join(list(flags.values())[1:-1]),
    }
    for variant in report["variants"]:
        assert variant["failures"] == {}
        # Without eager encoding nothing is ready before the question.
        eager = "--eager-encode off" not in variant["flags"]
        assert ("look" in variant["samples"]) == eager
        for stage, values in variant["samples"].items():
            assert len(values) == 2 and all(value >= 0 for value in values if stage != "outside"), stage
    assert [cold["name"] for cold in report["cold"]] == ["everything on", "no warm-up"]
    assert all(len(cold["samples"]["loaded"]) == 1 for cold in report["cold"])
    assert report["picture"].startswith("2 pictures of pictures")

    overhead = report["overhead"]
    for what in ("alone", "beside_busy", "together", "per_token", "per_request", "step"):
        assert overhead[what], what
    instruments = overhead["instruments"]
    assert instruments["token"] and instruments["token_exported"]

    assert [length["words"] for length in report["lengths"]] == [4, 9, 17, 33, 70]
    assert all(length["first"] > 0 and len(length["later"]) == 5 for length in report["lengths"])

    text = (bench.out / "report.md").read_text()
    assert bench.stdout.startswith(text)
    for heading in ("Each stage, 2 rounds", "Against the targets", "Before and after", "Cold starts (1), no warm-up", "First token of the first"):
        assert f"## {heading}" in text, heading
    page = (bench.out / "report.html").read_text()
    assert page.count("<svg") >= 5
    # Nothing has to be fetched for it.
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import", page)


def test_users_in_a_closed_loop_and_memory_over_time(bench, folder):
    report = bench(*TINY, "--runs", 0, "--cold", 0, "--users", "1,3", "--duration", 2, "--image", folder / "a.jpg")
    assert report["variants"] == report["cold"] == []
    assert [load["users"] for load in report["loads"]] == [1, 3]
    for load in report["loads"]:
        assert load["answers"] == len(load["samples"]["total"]) > 0 and load["failures"] == {}
        assert load["seconds"] >= 2
        times = [point["seconds"] for point in load["memory"]]
        assert len(times) >= 2 and times == sorted(times)
        assert all(point["resident_bytes"] > 1e6 for point in load["memory"])
    assert "Memory of the server" in bench.stdout
    assert "Memory over time" in (bench.out / "report.html").read_text()


def test_users_who_ask_about_one_picture_each(bench, folder):
    flags = ("--users", "1,4", "--one-picture", "--duration", 2, "--image", folder / "a.jpg")
    report = bench(*TINY, "--runs", 0, "--cold", 0, *flags, "--", "--max-batch", 16)
    assert [load["users"] for load in report["loads"]] == [1, 4]
    for load in report["loads"]:
        samples = load["samples"]
        assert load["one_picture"] and load["failures"] == {}
        assert load["answers"] == len(samples["first_token"]) > 0
        # Its way to the server counts for nothing.
        assert "upload" not in samples
        assert 0 < load["tokens_per_second"] <= load["tokens"] / 2
        assert load["gap_ratios"] and min(load["gap_ratios"]) >= 1
    assert "4 users, one picture each" in bench.stdout


def test_users_at_a_rate_wait_from_when_they_were_due(bench):
    """More come than can be answered: none is left out, and each one's time counts from when it was due."""
    rate, duration = 24, 1
    report = bench("--runs", 0, "--cold", 0, "--rate", rate, "--duration", duration, "--max-new-tokens", 4)
    (load,) = report["loads"]
    assert load["rate"] == rate and load["failures"] == {}
    waits = load["samples"]["total"]
    assert load["answers"] == len(waits) == rate * duration
    # The last was due before the time was over, and was answered when all was.
    backlog = (load["seconds"] - duration) * 1000
    assert backlog > 0 and max(waits) >= backlog


def test_a_server_that_runs_already(bench, server):
    report = bench("--url", server.url, "--runs", 1)
    assert [variant["name"] for variant in report["variants"]] == ["everything on"]
    assert report["cold"] == [] and report["model"]["demo"]
    assert report["overhead"]["beside_busy"] == []
    # It belongs to somebody else.
    assert server.process.poll() is None


def test_a_server_that_is_not_there(bench):
    bench("--url", "http://127.0.0.1:9", "--runs", 1, status=1)
    assert bench.stderr.startswith("glimpse: the server can't be measured") and bench.stderr.count("\n") == 1


def test_answers_of_smaller_weights_beside_exact_ones(bench, binary, tmp_path):
    picture, question = ROOT / "public/samples/shapes.jpg", "How many things are there?"
    command = [binary, "generate", "--image", picture, "--prompt", question, "--greedy"]
    said = subprocess.run(command, env=bench.clean, capture_output=True, text=True, check=True).stdout.strip()
    rows = [
        {"image": str(picture), "kind": kind, "lang": "en", "turns": [{"question": question, "answer": answer}]}
        for kind, answer in (("as said", said), ("another", said + "!"))
    ]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench("--agreement", questions, "--device", "cpu", "--dtype", "bf16")
    cells = {line.split(" | ")[0]: line.strip(" |").split(" | ")[1:] for line in bench.stdout.splitlines()}
    assert cells["| exact answers"] == ["f32, cpu", "bf16, cpu", "q8, cpu", "q4, cpu"]
    assert cells["| as said, en, of 1"][0] == "1" and cells["| another, en, of 1"] == ["0"] * 4
    weights = [float(cell) for cell in cells["| weights, MB"]]
    assert weights == sorted(weights, reverse=True)
    # The demo's weights are stored in bf16.
    same = cells["| same likeliest token"]
    assert same[0] == "–" and same[1].startswith("100.00% of ")
    divergences = [float(cell) for cell in cells["| KL divergence, mean"][1:]]
    assert divergences[0] < divergences[1] < divergences[2]


def test_questions_that_are_not_there(bench):
    bench("--agreement", "nowhere.jsonl", status=1)
    assert bench.stderr.startswith("glimpse: --agreement nowhere.jsonl: ") and bench.stderr.count("\n") == 1


def timed(value, change):
    """A report in which everything took what `change` makes of its time."""
    if isinstance(value, dict):
        return {key: timed(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [timed(inner, change) for inner in value]
    return change(value) if isinstance(value, float) else value


def test_what_got_slower_is_told_by_the_exit_status(bench, folder, tmp_path):
    flags = (*TINY, *QUICK, "--runs", 2, "--image", folder / "a.jpg")
    report = bench(*flags)
    old = tmp_path / "old.json"
    # Not so many times as long: gaps of a tiny model's tokens are near nothing, what is a difference of two times may be below
    # it, and what else the machine does is some milliseconds of both.
    old.write_text(json.dumps(timed(report, lambda ms: ms + 1e6)))
    bench(*flags, "--compare", old)
    assert bench.stdout.endswith("Nothing got slower.\n")
    old.write_text(json.dumps(timed(report, lambda ms: ms * 0.001)))
    bench(*flags, "--compare", old, status=1)
    assert re.search(r"^SLOWER  everything on: Drop to last word, median: \d+\.\d ms, was \d+\.\d ms$", bench.stdout, re.M)
    old.write_text("{}")
    bench(*flags, "--compare", old, status=1)
    assert "is not a report.json" in bench.stderr


def test_a_bar_tells_how_far_it_is(bench, folder):
    """On a terminal, and only there."""
    bench(*TINY, *QUICK, "--runs", 1, "--image", folder / "a.jpg")
    assert "Rounds" not in bench.stderr
    ours, its = pty.openpty()
    command = bench.command(*TINY, *QUICK, "--runs", 1, "--image", folder / "a.jpg")
    process = subprocess.Popen(command, env=bench.clean | {"TERM": "xterm"}, stdout=subprocess.DEVNULL, stderr=its)
    os.close(its)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:
        pass  # The other end is closed.
    os.close(ours)
    assert process.wait(120) == 0
    shown = seen.decode()
    for phase in ("Rounds", "Overheads"):
        assert phase in shown, shown
    assert "1/1" in shown
