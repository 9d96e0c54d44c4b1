"""What a fleet costs beside one process, on this machine; `make bench-fleet-cost` runs it.

    fleet.py cost [--rounds 20] [-- FLAGS]       one process and a fleet of one worker, asked by turns: words, first words, pictures
    fleet.py workers [--seconds 20] [-- FLAGS]   tokens a second of one worker and of two
    fleet.py moved [--answers 200] [--first 0] [-- FLAGS]   how many answers differ from those that nobody had to hand over

FLAGS go to `glimpse serve` and to `glimpse worker`; `{n}` in them is the worker's number, from 0: `--device cuda:{n}`. Without any,
random weights of the demo's shape compute on one thread each. GLIMPSE_BIN is the binary.
"""

import argparse
import io
import random
import signal
import statistics
import sys
import threading
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/helpers"))

from benching import arguments, client, measuring  # noqa: E402
from fleets import Fleet, Process  # noqa: E402
from ports import free_port  # noqa: E402
from watching import PATIENCE, metrics, rise  # noqa: E402

QUESTION = "What is in the picture?"


def photo(seed: int) -> bytes:
    """A JPEG of about 1.6 MB."""
    noise = Image.frombytes("RGB", (1000, 750), random.Random(seed).randbytes(1000 * 750 * 3))
    return jpeg(noise.resize((1720, 1290)), 88)


def jpeg(picture: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def flags_of(number: int, flags: list[str]) -> list[str]:
    return [flag.replace("{n}", str(number)) for flag in flags]


def alone(fleet: Fleet, flags: list[str]) -> Process:
    """One process with everything in it."""
    port = free_port()
    process = fleet.start("alone", str(fleet.binary), "serve", "--listen", f"127.0.0.1:{port}", *flags_of(0, flags))
    process.port = port
    return fleet.wait_ready(process)


def ask(asker, request: str, picture: str | None, tokens: int) -> tuple[float, list[float], int]:
    """Milliseconds to the first word, those between messages with words, and how many tokens came."""
    sent, came = time.perf_counter(), []
    fields = {"image": picture} if picture else {}
    asker.ask(request, QUESTION, sampling={"max_new_tokens": tokens}, **fields)
    while True:
        message = asker.recv(PATIENCE)
        if message.get("request") != request:
            continue
        if message["type"] == "token":
            came.append(time.perf_counter())
        if message["type"] in ("done", "error"):
            break
    assert message["type"] == "done", message
    gaps = [(b - a) * 1e3 for a, b in zip(came, came[1:])]
    return (came[0] - sent) * 1e3, gaps, message["usage"]["completion_tokens"]


def cost(fleet: Fleet, flags: list[str], rounds: int) -> None:
    ways = {"one process": alone(fleet, flags)}
    for replicas in (1, 3):
        # What it runs ends with the fleet that it is a part of.
        part = Fleet(fleet.binary, fleet.folder / str(replicas), fleet.running)
        part.folder.mkdir()
        part.serve_nats() if replicas == 1 else part.serve_cluster()
        part.pictures = "256MiB"
        # Three models are more than one card holds: the third is on the next, where flags name one.
        part.worker("one", *flags_of(replicas // 3, flags))
        ways[f"fleet, {replicas} replica{'s' * (replicas > 1)}"] = part.gateway()
    askers = {way: client.Client(process.ws) for way, process in ways.items()}
    first, gaps, pictures = ({way: [] for way in ways} for _ in range(3))
    kept = {way: asker.image(0, photo(0)) for way, asker in askers.items()}
    for way, asker in askers.items():
        ask(asker, "warm", kept[way], 8)
    for number in range(rounds):
        for way, asker in askers.items():
            to_first, between, _ = ask(asker, f"r{number}", kept[way], 64)
            first[way].append(to_first)
            gaps[way].append(statistics.median(between))
            data, began = photo(1 + number), time.perf_counter()
            image = asker.image(1 + number, data)
            asker.until("image_encoded", lambda m, image=image: m["image"] == image)
            pictures[way].append((time.perf_counter() - began) * 1e3)
            asker.send(type="forget", image=image)
            asker.until("forgotten")
    print(f"{rounds} rounds by turns, medians, ms; a picture of {len(photo(1)) / 1e6:.1f} MB")
    print("| | first word | between words | picture seen |\n|---|---|---|---|")
    for way in ways:
        each = [statistics.median(times[way]) for times in (first, gaps, pictures)]
        print(f"| {way} | {each[0]:.2f} | {each[1]:.3f} | {each[2]:.1f} |")


def rate(ws: str, users: int, seconds: float) -> float:
    """Tokens a second of all users, each of whom asks again as soon as it has its answer."""
    counts, end = [0] * users, time.monotonic() + seconds

    def use(user: int) -> None:
        asker, number = client.Client(ws), 0
        while time.monotonic() < end:
            number += 1
            counts[user] += ask(asker, f"r{number}", None, 128)[2]
        asker.close()

    began = time.monotonic()
    threads = [threading.Thread(target=use, args=(user,)) for user in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def workers(fleet: Fleet, flags: list[str], seconds: float, users: int) -> None:
    fleet.serve_nats()
    one = fleet.worker("one", *flags_of(0, flags))
    gateway = fleet.gateway("--open-requests", str(4 * users))
    rate(gateway.ws, users, 3)
    rates = {1: [rate(gateway.ws, users, seconds)]}
    fleet.worker("two", *flags_of(1, flags))
    rate(gateway.ws, 2 * users, 3)
    rates[2] = [rate(gateway.ws, 2 * users, seconds) for _ in range(2)]
    one.signal(signal.SIGTERM)
    one.wait()
    rates[1].append(rate(gateway.ws, users, seconds))
    means = {count: statistics.mean(each) for count, each in rates.items()}
    print(f"one worker with {users} users {means[1]:.0f} tokens/s, two with {2 * users} {means[2]:.0f}: {means[2] / means[1]:.2f} ×")


def view(number: int) -> bytes:
    """One of the sample pictures, each time cut otherwise."""
    samples = sorted((ROOT / "public/samples").glob("*.jpg"))
    whole = Image.open(samples[number % len(samples)])
    draw = random.Random(number)
    left, top, right, bottom = (draw.uniform(0, 0.1) for _ in range(4))
    width, height = whole.size
    return jpeg(whole.crop((int(left * width), int(top * height), int(width - right * width), int(height - bottom * height))), 90)


def moved(fleet: Fleet, flags: list[str], questions: range) -> None:
    """Each answer is handed over after its first words by a worker that is asked to end, as a lost one's would be."""
    tokens = 200
    fleet.serve_nats()
    single = alone(fleet, flags)
    names = ["one", "two"]
    running = {name: fleet.worker(name, *flags_of(0, flags)) for name in names}
    gateway = fleet.gateway()
    # Of those that nobody handed over, and of those that somebody did.
    count, differ = [0, 0], [0, 0]
    for number in questions:
        picture, asked = view(number), {"sampling": {"max_new_tokens": tokens}}
        asker, other = client.Client(gateway.ws), client.Client(single.ws)
        other.ask("r", "Describe the picture.", image=other.image(1, picture), **asked)
        other.done("r")
        before = {name: _processor_time(each) for name, each in running.items()}
        image = asker.image(1, picture)
        asker.until("image_encoded", lambda m, image=image: m["image"] == image)
        home = max(names, key=lambda name: _processor_time(running[name]) - before[name])
        told = metrics(gateway)
        asker.ask("r", "Describe the picture.", image=image, **asked)
        while len([m for m in asker.of("r") if m["type"] == "token"]) < 3:
            asker.recv(PATIENCE)
        running[home].signal(signal.SIGTERM)
        asker.done("r")
        was_handed = bool(rise(gateway, told, "glimpse_answers_moved_total"))
        count[was_handed] += 1
        differ[was_handed] += asker.answer("r") != other.answer("r")
        asker.close()
        other.close()
        running[home].wait()
        running[home] = fleet.worker(home, *flags_of(0, flags))
    print(
        f"{sum(count)} answers about a picture, {count[True]} of them handed over after their first words: {differ[True]} of these "
        f"differ from those of one process, and {differ[False]} of the others"
    )


def _processor_time(process: Process) -> int:
    """Nanoseconds, of all of its threads that live: finer than ticks, of which a worker with a card takes none for a picture."""
    spent = 0
    for file in Path(f"/proc/{process.process.pid}/task").glob("*/schedstat"):
        try:
            spent += int(file.read_text().split()[0])
        except OSError:
            pass
    return spent


def main() -> None:
    own, flags = arguments()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "workers", "moved"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--users", type=int, default=2, help="users for each worker")
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first question's number, for several runs side by side")
    args = parser.parse_args(own)
    with measuring() as fleet:
        match args.what:
            case "cost":
                cost(fleet, flags, args.rounds)
            case "workers":
                workers(fleet, flags, args.seconds, args.users)
            case "moved":
                moved(fleet, flags, range(args.first, args.first + args.answers))


if __name__ == "__main__":
    main()
