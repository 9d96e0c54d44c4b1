"""`glimpse bench --fleet`: a small fleet, its table and its figures."""

import json
import subprocess


def simulate(binary, folder, *flags):
    run = subprocess.run(
        [str(binary), "bench", "--fleet", "--workers", "4", "--sessions", "200", "--duration", "60", "--out", str(folder), *flags],
        capture_output=True, text=True, timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout, json.loads((folder / "fleet.json").read_text())


def test_a_fleet_in_virtual_time_tells_how_full_everything_is(binary, tmp_path):
    table, found = simulate(binary, tmp_path, "--stampede", "20", "--price", "2")
    for row in ("first word, p50 and p99", "prefix hit rate", "slots in use", "NATS' records, bytes", "fullest", "cards for a million answers"):
        assert f"| {row} |" in table, table
    assert found["losses"] == 1 and found["refused"] == 0 and 0 < found["hit_rate"] <= 1
    assert "at 2 an hour (--price)" in table


def test_threads_and_steps_change_nothing(binary, tmp_path):
    figures = [simulate(binary, tmp_path, *flags)[1] for flags in (["--cores", "1"], ["--cores", "3"], ["--stepwise"])]
    for one in figures:
        one.pop("jumped")
    assert figures[0] == figures[1] == figures[2]


def test_a_schedule_is_asked_as_it_stands(binary, tmp_path):
    file = tmp_path / "list.json"
    file.write_text(json.dumps([{"at": n, "session": n % 3, "prompt": 20, "answer": 10} for n in range(12)]))
    assert simulate(binary, tmp_path, "--schedule", file)[1]["answered"] == 12
