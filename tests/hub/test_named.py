"""A model's name stands wherever a folder may: it is fetched once, and taken from the cache from then on."""

import json
import signal
import urllib.request

from caches import NAME

ASK = ("--prompt", "1", "--greedy", "--max-new-tokens", "2", "--device", "cpu", "--json")


def test_a_name_is_fetched_once_and_answers(machine, world):
    first = machine.glimpse("generate", "--model", NAME, *ASK)
    assert first.code == 0, first.err
    world.asked.clear()
    again = machine.glimpse("generate", "--model", NAME, *ASK)
    assert not world.asked
    ids = [[token["id"] for token in json.loads(result.out)["tokens"]] for result in (first, again)]
    assert ids[0] == ids[1]


def test_a_server_is_called_by_the_name(machine):
    server = machine.start("serve", "--model", NAME, "--device", "cpu", "--listen", "127.0.0.1:0")
    try:
        line = server.stdout.readline()
        address = line.split()[-1]
        assert address.startswith("http://"), line + server.stderr.read()
        with urllib.request.urlopen(f"{address}/v1/models", timeout=60) as answer:
            [model] = json.load(answer)["data"]
        assert model["id"] == NAME
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def test_what_is_neither_a_folder_nor_a_model_is_told_as_both(machine):
    result = machine.glimpse("generate", "--model", "no/such", *ASK)
    assert result.code == 1
    assert "no folder no/such" in result.err and "check the name" in result.err
