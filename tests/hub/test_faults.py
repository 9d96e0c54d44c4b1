"""What goes wrong on the way is either mended or told in one sentence with a way on; and nothing half-written is taken for whole."""

import random
import re
import resource
import signal
import subprocess
import threading
import time

import pytest
from caches import NAME, NEEDED, SHARDS, checkpoint, refused, whole
from stand_in import TOKEN
from watching import wait_for

SHARD = SHARDS[0]


def stands(process):
    """Whether it goes on; it must."""
    assert process.poll() is None, process.communicate()
    return True


def test_a_connection_cut_at_a_hundred_places_is_gone_on_with(machine, world):
    sizes = [len(checkpoint().files[name]) for name in SHARDS]
    draw = random.Random(24)
    # Each place is one within what is left by then, so that each cut falls.
    world.cuts = [draw.randrange(1, max(sizes) // 50) for _ in range(100)]
    assert whole(machine.pull().folder)
    assert not world.cuts
    starts = {name: [asked.start for asked in world.bytes_of(name)] for name in SHARDS}
    # Some fall into the small files, which the hub gives itself.
    assert sum(map(len, starts.values())) > 70
    assert all(begun == sorted(begun) and len(set(begun)) == len(begun) for begun in starts.values())
    # Each time the hub was asked anew for the address.
    assert all(len(world.resolved(name)) == len(begun) for name, begun in starts.items())
    assert not machine.incomplete()


def test_a_connection_cut_before_its_first_byte_is_tried_again_for_a_while_only(machine, world):
    world.cuts = [0] * 2
    assert whole(machine.pull().folder)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_ends_leaves_what_the_next_goes_on_with(machine, world, end):
    world.stall, world.stalls = threading.Event(), 100
    process = machine.start("pull", NAME, HF_HUB_DOWNLOAD_TIMEOUT="600")
    # The files before them are incomplete for a moment, too, and then gone while one looks.
    wait_for(lambda: stands(process) and machine.halves(*SHARDS))
    process.send_signal(end)
    process.communicate(timeout=60)
    begun = {path.name.removesuffix(".incomplete"): path.stat().st_size for path in machine.incomplete()}
    assert set(begun) == {checkpoint().etag(name) for name in SHARDS}
    assert not list((machine.cache / "models--zai-org--glm-4v-9b").glob("refs/*"))
    world.stall.set()
    world.stalls = 0
    world.asked.clear()
    assert whole(machine.pull().folder)
    for name in SHARDS:
        assert [asked.start for asked in world.bytes_of(name)] == [begun[checkpoint().etag(name)]]
    assert not machine.incomplete()


def test_a_connection_that_stands_still_is_given_up_and_gone_on_with(machine, world):
    world.stall, world.stalls = threading.Event(), 1
    assert whole(machine.pull(HF_HUB_DOWNLOAD_TIMEOUT="1").folder)


def test_an_address_that_is_not_valid_any_more_is_asked_for_anew(machine, world):
    world.uses_of_an_address = 1
    world.cuts = [0, 700, 700, 700, 700, 700, 700, 700, 700, 700, 700, 700]
    assert whole(machine.pull().folder)


def test_a_hub_that_knows_no_ranges_is_asked_for_all(machine, world):
    world.ranges = False
    # As many as one file bears that gets them all.
    world.cuts = [500] * 6
    assert whole(machine.pull().folder)


def test_a_hub_that_knows_no_ranges_and_always_cuts_is_given_up(machine, world):
    world.ranges = False
    world.cuts = [50] * 1000
    refused(machine.pull(), "hub_unreachable")


def test_a_range_of_another_version_starts_over(machine, world):
    world.etag = "by address"
    world.cuts = [10_000] * 9
    assert whole(machine.pull().folder)
    again = [[asked.start for asked in world.bytes_of(name)] for name in SHARDS]
    # Gone on with, which brought another ETag; then all of it.
    assert any(begun[:3] == [0, 10_000, 0] for begun in again)


def test_a_hub_that_names_another_version_starts_over_and_is_given_up_in_the_end(machine, world):
    world.other_etags = ['"' + "0" * 64 + '"'] * 2
    assert whole(machine.pull().folder)
    machine.glimpse("models", "--remove", NAME)
    world.other_etags = ['"' + "0" * 64 + '"'] * 100
    refused(machine.pull(), "hub_unavailable")


@pytest.mark.parametrize("files", [1, 3])
def test_a_wrong_checksum_is_fetched_again_once(machine, world, files):
    world.spoilt_once = files
    assert whole(machine.pull().folder)
    assert world.spoilt_once == 0


def test_what_stays_wrong_is_thrown_away_and_told(machine, world):
    world.spoilt = 10**6
    said = refused(machine.pull(), "wrong_checksum")
    assert "proxy" in said
    assert not [path for path in machine.cache.glob("*/blobs/*") if path.suffix != ".incomplete"]
    assert not list(machine.cache.glob("*/snapshots/*/*"))


def test_what_a_power_cut_left_wrong_is_found_by_its_checksum(machine, world):
    blobs = machine.cache / "models--zai-org--glm-4v-9b/blobs"
    blobs.mkdir(parents=True)
    size = len(checkpoint().files[SHARD])
    (blobs / f"{checkpoint().etag(SHARD)}.incomplete").write_bytes(bytes(size - 10))
    other = checkpoint().etag(SHARDS[1])
    (blobs / f"{other}.incomplete").write_bytes(bytes(10**6))
    assert whole(machine.pull().folder)


@pytest.mark.parametrize("status", [500, 503, 408])
def test_a_fault_of_the_hub_is_waited_for(machine, world, status):
    world.refusals["/revision/"] = [(status, {})]
    world.refusals[f"/{SHARD}"] = [(status, {})] * 2
    assert whole(machine.pull().folder)
    assert not any(world.refusals.values())


def test_a_fault_that_stays_is_told(machine, world):
    world.refusals["/revision/"] = [(503, {})] * 1000
    assert "503" in refused(machine.pull(), "hub_unavailable")
    assert 990 < len(world.refusals["/revision/"]) < 999


def test_a_hub_says_when_to_come_again_and_is_obeyed(machine, world):
    world.refusals[f"/{SHARD}"] = [(429, {"Retry-After": "2"})]
    begun = time.monotonic()
    result = machine.pull()
    assert whole(result.folder)
    assert time.monotonic() - begun >= 2
    assert "trying again in 2 s" in result.err


def test_nobody_waits_an_hour(machine, world):
    world.refusals["/revision/"] = [(429, {"Retry-After": "3600"})] * 9
    refused(machine.pull(), "rate_limited")
    assert len(world.refusals["/revision/"]) == 8


@pytest.mark.parametrize("token, way", [({}, "HF_TOKEN"), ({"HF_TOKEN": TOKEN}, "accept its terms")])
def test_a_gated_model_says_what_to_do(machine, world, token, way):
    world.models[NAME].gated = True
    said = refused(machine.pull(**token), "gated")
    assert f"{world.url}/{NAME}" in said and way in said


def test_a_private_model_is_fetched_with_a_token_which_goes_to_the_hub_alone(machine, world):
    world.models[NAME].private = True
    assert "HF_TOKEN" in refused(machine.pull(), "denied")
    (machine.home / "hf").mkdir()
    (machine.home / "hf/token").write_text(f"{TOKEN}\n")
    world.asked.clear()
    assert whole(machine.pull().folder)
    by_host = {host: [asked.headers.get("authorization") for asked in world.asked if asked.host == host] for host in ("127.0.0.1", "localhost")}
    assert set(by_host["127.0.0.1"]) == {f"Bearer {TOKEN}"}
    assert set(by_host["localhost"]) == {None}
    refused(machine.pull(HF_TOKEN="hf_wrong"), "denied")


@pytest.mark.parametrize("name, part", [("zai-org/none", "check the name"), (f"{NAME}@none", "after @")])
def test_what_is_gone_is_told(machine, name, part):
    assert part in refused(machine.pull(name, HF_TOKEN=TOKEN), "not_found")


def test_a_model_of_another_kind_is_told_before_anything_large_is_fetched(machine, world):
    del world.models[NAME].branches["main"].files["tokenizer.model"]
    assert "tokenizer.model" in refused(machine.pull(), "unusable")
    assert not [asked for asked in world.asked if asked.host == "localhost"]


def test_an_index_that_leads_elsewhere_is_refused(machine, world):
    world.models[NAME].branches["main"].files["model.safetensors.index.json"] = b'{"weight_map": {"a": "../../x.safetensors"}}'
    refused(machine.pull(), "unusable")


def test_a_disk_without_room_is_told_before_anything_large_is_fetched(machine, world):
    world.sizes[SHARD] = 10**17
    said = refused(machine.pull(), "disk_full")
    assert "HF_HOME" in said and "TiB" in said
    assert not [asked for asked in world.asked if asked.host == "localhost" and asked.path.split("?")[0].endswith(checkpoint().etag(SHARD))]


def test_a_disk_that_gets_full_is_told_and_what_came_is_kept(machine, world):
    def no_larger_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    command = [str(machine.binary), "pull", NAME]
    done = subprocess.run(command, env=machine.environment({}), cwd=machine.home, capture_output=True, text=True, preexec_fn=no_larger_files, timeout=120)
    assert done.returncode == 1 and done.stderr.strip().endswith("[disk_full]"), done.stderr
    assert any(path.stat().st_size for path in machine.incomplete())
    assert whole(machine.pull().folder)


def test_offline_without_a_cache_is_told_and_asks_nobody(machine, world):
    refused(machine.pull(HF_HUB_OFFLINE="1"), "offline")
    assert not world.asked


def test_half_of_a_model_is_none_offline(machine, world):
    world.spoilt = 10**6
    machine.pull()
    refused(machine.pull(HF_HUB_OFFLINE="1"), "offline")


def test_a_hub_that_can_t_be_reached_is_told_unless_the_cache_has_all(machine):
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    assert "ms:" in refused(machine.pull(**nobody), "hub_unreachable")
    folder = machine.pull().folder
    result = machine.pull(**nobody)
    assert result.folder == folder and "going on with what is in the cache" in result.err


def test_what_is_no_hub_is_told(machine, world):
    world.refusals["/revision/"] = [(200, {"Content-Type": "text/html"})]
    refused(machine.pull(), "hub_unavailable")


@pytest.mark.parametrize("name", ["glm", "../x/y", "a/b/c", "ms:", "a/b@"])
def test_what_is_no_name_is_told(machine, name):
    refused(machine.pull(name), "bad_name")


def test_two_processes_share_one_download(machine, world):
    world.stall, world.stalls = threading.Event(), len(NEEDED)
    first = machine.start("pull", NAME, HF_HUB_DOWNLOAD_TIMEOUT="600")
    # It has each of them locked: whoever comes next waits for it.
    wait_for(lambda: stands(first) and machine.halves(*SHARDS))
    second = machine.start("pull", NAME)
    # Until it waits for a file that the first one has locked.
    while True:
        line = second.stderr.readline()
        assert line, "it ended without a word"
        if "another process fetches" in line:
            break
    world.stall.set()
    results = [process.communicate(timeout=120) for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), results
    assert results[0][0] == results[1][0]
    fetched = [(asked.path.split("?")[0], asked.start) for asked in world.asked if asked.method == "GET" and asked.host == "localhost"]
    assert len(fetched) == len(set(fetched))
    assert not machine.incomplete()


def test_python_and_this_share_one_download(machine, world):
    """Who is first locks the file as the other does."""
    world.stall, world.stalls = threading.Event(), len(NEEDED)
    ours = machine.start("pull", NAME, HF_HUB_DOWNLOAD_TIMEOUT="600")
    # Of a file that Python had locked first, what stands still is cut off, and Python begins it anew.
    wait_for(lambda: stands(ours) and machine.halves(*SHARDS))
    threading.Timer(3, world.stall.set).start()
    machine.download()
    ours.communicate(timeout=120)
    assert ours.returncode == 0
    keys = [asked.path.split("?")[0] for asked in world.asked if asked.method == "GET" and asked.host == "localhost" and asked.start == 0]
    assert len(keys) == len(set(keys))


def test_progress_is_told_in_lines_where_there_is_no_terminal(machine, world):
    result = machine.pull()
    told = re.findall(rf"^{NAME}: (\S+) is whole$", result.err, re.M)
    assert sorted(told) == sorted(NEEDED)
    assert "\x1b" not in result.err
    machine.glimpse("models", "--remove", NAME)
    world.stall, world.stalls = threading.Event(), 100
    process = machine.start("pull", NAME, HF_HUB_DOWNLOAD_TIMEOUT="600")
    while True:
        line = process.stderr.readline()
        assert line, "it ended without telling how far it is"
        if re.match(rf"{NAME}: .+ of .+, .+/s", line):
            break
    world.stalls = 0
    world.stall.set()
    process.communicate(timeout=120)
    assert process.returncode == 0
