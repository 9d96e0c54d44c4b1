"""Whether a fleet in virtual time does what a real one does, on this machine: the same questions at the same times for both.

    simulation.py [--workers 1,2] [--seconds 60] [--rate 1.5] [--sessions 8] [-- FLAGS]

Stage times are measured first, with a client of the same fleet, while nothing else is asked. FLAGS go to `glimpse worker`; without
any, random weights of the demo's shape compute on one thread each. GLIMPSE_BIN is the binary.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))

from benching import arguments, client, measuring  # noqa: E402
from watching import PATIENCE  # noqa: E402

SLOTS = 4
# Between what is measured, as there is between questions: a processor that has done something else is slower.
PAUSE = 0.4


def photo(seed: int) -> bytes:
    noise = Image.frombytes("RGB", (160, 120), random.Random(seed).randbytes(160 * 120 * 3))
    file = io.BytesIO()
    noise.resize((640, 480)).save(file, "JPEG", quality=85)
    return file.getvalue()


def words(count: int, draw=random.Random(7)) -> str:
    """A question that begins as no other."""
    return " ".join("".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=3)) for _ in range(count))


def ask(asker, request: str, count: int, picture: str, tokens: int) -> tuple[float, float, dict]:
    """When the first word came and when the answer was over, and its last message."""
    asker.ask(request, words(count), image=picture, sampling={"max_new_tokens": tokens})
    first = None
    while True:
        message = asker.recv(PATIENCE)
        if message.get("request") != request:
            continue
        if message["type"] == "token" and first is None:
            first = time.perf_counter()
        if message["type"] in ("done", "error"):
            assert message["type"] == "done", message
            return first or time.perf_counter(), time.perf_counter(), message


def together(askers, pictures, tokens: int) -> float:
    """Milliseconds of a step of as many answers as there are askers."""
    steps = [0.0] * len(askers)

    def use(number: int) -> None:
        _, _, done = ask(askers[number], f"t{time.perf_counter_ns()}", 4, pictures[number], tokens)
        steps[number] = done["timings"]["decode_ms"] / (done["usage"]["completion_tokens"] - 1)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(len(askers))]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return statistics.median(steps)


def measured(gateway) -> tuple[dict, dict]:
    """The stage times of a worker that has nothing else to do, and what lies between it and a client."""
    askers = [client.Client(gateway.ws) for _ in range(SLOTS)]
    pictures = [asker.image(0, photo(number)) for number, asker in enumerate(askers)]
    for asker, picture in zip(askers, pictures):
        ask(asker, "warm", 4, picture, 16)
    vision, prefill, before, entries = [], [], [], 0
    for number in range(8):
        time.sleep(PAUSE)
        began = time.perf_counter()
        image = askers[0].image(10 + number, photo(100 + number))
        seen = askers[0].until("image_encoded", lambda m, image=image: m["image"] == image)
        took, entries = seen["timings"], seen["tokens"]
        vision.append(took["vision_ms"])
        prefill.append(took["prefill_ms"])
        before.append((time.perf_counter() - began) * 1e3 - sum(took.values()))
    first, ways = {4: [], 40: []}, []
    rows = {}
    for number in range(15):
        for count in first:
            time.sleep(PAUSE)
            began = time.perf_counter()
            came, _, done = ask(askers[0], f"p{count}-{number}", count, pictures[0], 2)
            usage = done["usage"]
            rows.setdefault(count, []).append(usage["prompt_tokens"] - usage["cached_tokens"])
            first[count].append(done["timings"]["prefill_ms"])
            ways.append((came - began) * 1e3 - done["timings"]["first_token_ms"])
    step = [(n, statistics.median(together(askers[:n], pictures, 120) for _ in range(5))) for n in (1, 2, SLOTS)]
    way = max(statistics.median(ways) / 2, 0.05)
    points = sorted((round(statistics.median(rows[count])), statistics.median(first[count])) for count in first)
    if points[0][0] == points[-1][0]:
        points = points[:1]
    card = {
        "name": "this machine", "measured": "tests/bench/simulation.py", "price_per_hour": 0.0, "price_of": "none",
        "slots": SLOTS, "queue": 64, "pages": 4000, "host_pages": 0, "opening_entries": entries,
        "step_ms": step, "step_entries": entries + 60, "entry_ns": 0, "prompt_ms": points,
        "tower_ms": statistics.median(vision), "tower_stages": 8, "stage_rows": 400,
        "prefill_ms": statistics.median(prefill), "layers": 4, "page_move_us": 10.0,
    }
    wire = json.loads((ROOT / "server/simulation/cards/nats.json").read_text())
    wire |= {"way_ms": way, "decode_ms": max(statistics.median(before) - 2 * way, 0.1), "picture_bytes": 0.0}
    for asker in askers:
        asker.close()
    return card, wire


def drawn(seconds: float, rate: float, sessions: int, seed: int) -> list[dict]:
    draw, at, known, questions = random.Random(seed), 0.0, set(), []
    while (at := at + draw.expovariate(rate)) < seconds:
        session = draw.randrange(sessions)
        brings = session not in known or draw.random() < 0.15
        known.add(session)
        questions.append({
            "at": at, "session": session, "new_picture": brings, "words": draw.randrange(4, 40), "tokens": draw.randrange(40, 160),
        })
    return questions


def real(gateway, questions: list[dict], sessions: int) -> dict:
    """Asks them when they are due, each session one after the other; what came of each is written to it."""
    start = time.perf_counter() + 1.0

    def use(session: int) -> None:
        asker, picture, brought = client.Client(gateway.ws), None, 0
        for number, it in enumerate(questions):
            if it["session"] != session:
                continue
            due = start + it["at"]
            time.sleep(max(0.0, due - time.perf_counter()))
            if it["new_picture"]:
                brought += 1
                picture = asker.image(brought, photo(1000 * session + brought))
            first, over, done = ask(asker, f"q{number}", it["words"], picture, it["tokens"])
            it |= {"first": (first - due) * 1e3, "usage": done["usage"], "between": (over - first) * 1e3 / max(done["usage"]["completion_tokens"] - 1, 1)}
        asker.close()

    threads = [threading.Thread(target=use, args=(session,)) for session in range(sessions)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    usage = [it["usage"] for it in questions]
    return {
        "first word, p50, ms": statistics.median(it["first"] for it in questions),
        "of these with a picture sent before": statistics.median(it["first"] for it in questions if not it["new_picture"]),
        "with a new picture": statistics.median(it["first"] for it in questions if it["new_picture"]),
        "tokens a second of an answer, p50": 1e3 / statistics.median(it["between"] for it in questions),
        "prefix hit rate": sum(it["cached_tokens"] for it in usage) / sum(it["prompt_tokens"] for it in usage),
    }


def simulated(folder: Path, questions: list[dict], card: dict, wire: dict, workers: int, sessions: int, seconds: float) -> dict:
    opening = card["opening_entries"]
    listed = [
        {"at": it["at"], "session": it["session"], "new_picture": it["new_picture"],
         "prompt": it["usage"]["prompt_tokens"] - opening, "answer": it["usage"]["completion_tokens"]}
        for it in questions
    ]
    for name, value in (("card", card), ("wire", wire), ("list", listed)):
        (folder / f"{name}.json").write_text(json.dumps(value))
    subprocess.run(
        [os.environ["GLIMPSE_BIN"], "bench", "--fleet", "--card", folder / "card.json", "--nats-rates", folder / "wire.json",
         "--schedule", folder / "list.json", "--workers", str(workers), "--sessions", str(sessions), "--decoders", "1",
         "--replicas", "1", "--duration", str(seconds + 60), "--out", folder / "out"],
        check=True, stdout=subprocess.DEVNULL,
    )
    found = json.loads((folder / "out/fleet.json").read_text())
    assert found["answered"] == len(questions), found
    return {
        "first word, p50, ms": found["first_p50"],
        "of these with a picture sent before": found["kept_p50"],
        "with a new picture": found["brought_p50"],
        "tokens a second of an answer, p50": 1e3 / found["between_p50"],
        "prefix hit rate": found["hit_rate"],
    }


def main() -> None:
    own, flags = arguments()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1.5, help="questions a second for each worker")
    parser.add_argument("--sessions", type=int, default=8, help="for each worker")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(own)
    with measuring() as fleet:
        fleet.serve_nats()
        # As many as its tests need: pictures are small here.
        fleet.pictures = "1GiB"
        fleet.worker("w0", "--max-batch", str(SLOTS), *flags)
        running, gateway = 1, fleet.gateway("--open-requests", "64")
        # Of one: several would share what is to be a step of several answers.
        card, wire = measured(gateway)
        print(json.dumps({k: v for k, v in (card | wire).items() if k.endswith("_ms")}))
        for workers in map(int, args.workers.split(",")):
            while running < workers:
                fleet.worker(f"w{running}", "--max-batch", str(SLOTS), *flags)
                running += 1
            questions = drawn(args.seconds, args.rate * workers, args.sessions * workers, args.seed)
            found = real(gateway, questions, args.sessions * workers)
            expected = simulated(fleet.folder, questions, card, wire, workers, args.sessions * workers, args.seconds)
            print(f"\n{workers} workers, {len(questions)} questions in {args.seconds:.0f} s\n\n| | real | simulated | ratio |\n|---|---|---|---|")
            for what, value in found.items():
                print(f"| {what} | {value:.3g} | {expected[what]:.3g} | {expected[what] / value:.2f} |", flush=True)


if __name__ == "__main__":
    main()
