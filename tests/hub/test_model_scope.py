"""Models of ModelScope lie in its own cache; what one hub's cache has is not fetched from the other hub."""

import pytest
from caches import NAME, NEEDED, SHARDS, checkpoint, refused, whole
from stand_in import Model, Revision, changed

MS = "ms:ZhipuAI/glm-4v-9b"


@pytest.fixture(autouse=True)
def there_too(world):
    world.models["ZhipuAI/glm-4v-9b"] = Model({"master": checkpoint()})


def test_its_own_layout(machine, world):
    folder = machine.pull(MS).folder
    assert folder == machine.scope / "models/ZhipuAI--glm-4v-9b/snapshots/master"
    assert whole(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NEEDED)
    assert not machine.cache.exists()
    world.asked.clear()
    assert machine.pull(MS, HF_HUB_OFFLINE="1").folder == folder
    assert not world.asked
    assert machine.pull(MS).folder == folder
    assert len(world.asked) == 1


@pytest.mark.parametrize("place", ["models/ZhipuAI/glm-4v-9b", "hub/models/ZhipuAI/glm-4v-9b"])
def test_its_earlier_layouts_are_gone_on_with(machine, world, place):
    folder = machine.scope / place
    folder.mkdir(parents=True)
    files = checkpoint().files
    for name in NEEDED[:-1]:
        (folder / name).write_bytes(files[name])
    refused(machine.pull(MS, HF_HUB_OFFLINE="1"), "offline")
    assert machine.pull(MS).folder == folder
    assert whole(folder)
    assert not [asked for asked in world.asked if asked.host == "localhost"]
    assert machine.pull(MS, HF_HUB_OFFLINE="1").folder == folder
    assert "ms:ZhipuAI/glm-4v-9b" in machine.glimpse("models").out


def test_a_file_that_changed_is_fetched_anew(machine, world):
    folder = machine.pull(MS).folder
    files = checkpoint().files
    newer = changed(files[SHARDS[0]])
    world.models["ZhipuAI/glm-4v-9b"].branches["master"] = Revision(files | {SHARDS[0]: newer})
    assert machine.pull(MS).folder == folder
    assert (folder / SHARDS[0]).read_bytes() == newer


def test_cuts_wrong_bytes_and_faults_are_mended(machine, world):
    world.cuts = [900] * 30
    world.spoilt = 1
    world.refusals["/repo/files"] = [(502, {})]
    assert whole(machine.pull(MS).folder)
    assert not world.cuts and not machine.incomplete()


def test_its_token_goes_to_it_alone(machine, world):
    machine.pull(MS, MODELSCOPE_API_TOKEN="of-the-tests", HF_TOKEN="hf_other")
    said = {(asked.host, asked.headers.get("authorization"), asked.headers.get("cookie")) for asked in world.asked}
    assert said == {("127.0.0.1", "Bearer of-the-tests", "m_session_id=of-the-tests"), ("localhost", None, None)}


def test_what_is_not_there_is_told(machine):
    refused(machine.pull("ms:ZhipuAI/none"), "not_found")
    refused(machine.pull(f"{MS}@none"), "not_found")


@pytest.mark.parametrize("first, second", [(MS, NAME), (NAME, MS)])
def test_what_one_cache_has_the_other_links(machine, world, first, second):
    machine.pull(first)
    world.asked.clear()
    folder = machine.pull(second).folder
    assert whole(folder)
    assert not [asked for asked in world.asked if asked.host == "localhost"]
    assert (folder / SHARDS[0]).resolve().stat().st_nlink == 2
    # And either goes without the other.
    assert machine.glimpse("models", "--remove", first).code == 0
    assert whole(folder)
    assert machine.pull(second, HF_HUB_OFFLINE="1").folder == folder


def test_it_is_removed(machine):
    folder = machine.pull(f"{MS}@master").folder
    assert machine.glimpse("models", "--remove", MS).code == 0
    assert not folder.exists()
    refused(machine.glimpse("models", "--remove", MS), "not_found")
