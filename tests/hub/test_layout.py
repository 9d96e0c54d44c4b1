"""What is fetched lies in the cache as huggingface_hub puts it there, and each of both finds what the other has fetched."""

import json
import os

import pytest
from caches import NAME, NEEDED, SHARDS, checkpoint, share, tree
from stand_in import Revision, changed, sha256

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.mark.parametrize("revision", ["main", "refs/pr/1", "v1.0"])
def test_the_cache_is_the_one_that_python_makes(machine, other_machine, world, revision):
    world.models[NAME].branches[revision] = checkpoint()
    folder = machine.pull(NAME if revision == "main" else f"{NAME}@{revision}").folder
    other_machine.download(revision=revision)
    ours, theirs = tree(machine.cache), tree(other_machine.cache)
    assert ours == theirs
    assert sorted(path.name for path in folder.iterdir()) == sorted(NEEDED)
    assert all((folder / name).read_bytes() == checkpoint().files[name] for name in NEEDED)


def test_a_commit_is_a_revision_too_and_needs_no_ref(machine, other_machine, world):
    commit = world.models[NAME].branches["main"].commit
    machine.pull(f"{NAME}@{commit}")
    other_machine.download(revision=commit)
    assert tree(machine.cache) == tree(other_machine.cache)
    assert not (machine.cache / "models--zai-org--glm-4v-9b/refs").exists()


def test_python_loads_offline_what_was_pulled(machine):
    folder = machine.pull().folder
    script = """
import sys
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download
print(snapshot_download(sys.argv[1]))
for file in sys.argv[2:]:
    print(hf_hub_download(sys.argv[1], file))
info = scan_cache_dir()
assert not info.warnings and not info.incomplete_files, info
[repo] = info.repos
assert [sorted(revision.refs) for revision in repo.revisions] == [["main"]]
"""
    lines = machine.python(script, NAME, *NEEDED, **OFFLINE).split()
    assert lines == [str(folder), *(str(folder / name) for name in NEEDED)]


def test_what_python_has_fetched_is_found_offline_and_nothing_of_it_is_fetched(machine, world):
    machine.download()
    before = tree(machine.cache)
    world.asked.clear()
    folder = machine.pull(**OFFLINE).folder
    assert not world.asked
    assert json.loads((folder / "config.json").read_text())
    assert machine.pull().folder == folder
    assert not [asked for asked in world.asked if asked.method == "GET" and "/resolve/" in asked.path]
    assert tree(machine.cache) == before


def test_python_goes_on_with_what_was_pulled(machine, world):
    machine.pull()
    world.asked.clear()
    machine.download()
    assert not [asked for asked in world.asked if asked.method == "GET"]


def test_a_second_pull_fetches_nothing_and_a_newer_commit_only_what_is_new(machine, world):
    machine.pull()
    first = checkpoint()
    world.asked.clear()
    assert machine.pull().code == 0
    assert not [asked for asked in world.asked if asked.method == "GET" and "/resolve/" in asked.path]
    shard = SHARDS[1]
    newer = changed(first.files[shard])
    world.models[NAME].branches["main"] = Revision(first.files | {shard: newer})
    world.asked.clear()
    folder = machine.pull().folder
    assert (folder / shard).read_bytes() == newer
    assert {asked.path.rsplit("/", 1)[1] for asked in world.asked if asked.method == "GET" and "/resolve/" in asked.path} == {shard}


def test_the_ref_moves_only_once_all_is_there(machine, world):
    """Whoever is offline goes on with the old one until then."""
    old = machine.pull().folder
    first = checkpoint()
    shard = SHARDS[2]
    world.models[NAME].branches["main"] = Revision(first.files | {shard: changed(first.files[shard])})
    world.spoilt = 10
    assert machine.pull().code == 1
    assert machine.pull(**OFFLINE).folder == old


def test_texts_come_before_weights(machine, world):
    machine.pull()
    order = [asked.path.rsplit("/", 1)[1] for asked in world.asked if asked.method == "GET" and "/resolve/" in asked.path]
    assert set(order[-len(SHARDS) :]) == set(SHARDS)
    assert sorted(order) == sorted(NEEDED)


def test_a_model_of_one_file_needs_no_index(machine, world):
    files = checkpoint().files
    one = {name: data for name, data in files.items() if name not in SHARDS and name != "model.safetensors.index.json"}
    world.models[NAME].branches["main"] = Revision(one | {"model.safetensors": files[SHARDS[0]]})
    folder = machine.pull().folder
    assert (folder / "model.safetensors").read_bytes() == files[SHARDS[0]]


@pytest.mark.parametrize("had, asked", [("THUDM/glm-4v-9b", NAME), (NAME, "THUDM/glm-4v-9b")])
def test_a_renamed_owner_is_looked_for_under_both_names(machine, world, had, asked):
    world.renamed["THUDM/glm-4v-9b"] = NAME
    machine.download(had)
    folder = machine.pull(asked, **OFFLINE).folder
    assert folder.parent.parent.name == "models--" + had.replace("/", "--")
    # Online the name's own folder is filled, with links to what is there.
    world.asked.clear()
    folder = machine.pull(asked).folder
    assert folder.parent.parent.name == "models--" + asked.replace("/", "--")
    assert not [it for it in world.asked if it.host == "localhost"]
    assert (folder / SHARDS[0]).stat().st_nlink == 2


def test_the_store_that_models_share_is_read(machine, world):
    machine.download()
    share(machine)
    assert (machine.cache / "blobs/.huggingface-shared-blobs").exists()
    before = tree(machine.cache)
    world.asked.clear()
    folder = machine.pull().folder
    assert not [asked for asked in world.asked if asked.host == "localhost"]
    assert (folder / SHARDS[0]).read_bytes() == checkpoint().files[SHARDS[0]]
    assert tree(machine.cache) == before


def test_caches_are_where_the_variables_say(machine, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    assert str(machine.pull(HF_HUB_CACHE=str(elsewhere)).folder).startswith(str(elsewhere))
    found = machine.pull(HF_HUB_CACHE="$HOME/../elsewhere", **OFFLINE).folder
    assert os.path.realpath(found).startswith(str(elsewhere))


def test_no_file_of_another_model_is_taken_for_this_ones(machine, world):
    """A blob of the right name and size, in which something is wrong."""
    shard = SHARDS[0]
    data = checkpoint().files[shard]
    blobs = machine.cache / "models--a--b/blobs"
    blobs.mkdir(parents=True)
    (blobs / sha256(data)).write_bytes(changed(data))
    folder = machine.pull().folder
    assert (folder / shard).read_bytes() == data
