"""`glimpse models` lists what is in the caches, and removes no more than it says."""

from caches import NAME, NEEDED, SHARDS, checkpoint, refused, share, tree
from stand_in import Model, Revision, changed


def rows(result):
    assert result.code == 0, result.err
    return [line.split() for line in result.out.splitlines()[1:]]


def test_nothing_is_said_to_be_there_where_nothing_is(machine):
    result = machine.glimpse("models")
    assert result.code == 0 and "glimpse pull" in result.out


def test_what_is_there_is_listed_with_its_size_and_what_it_lacks(machine, world):
    machine.pull()
    size = sum(len(checkpoint().files[name]) for name in NEEDED)
    [row] = rows(machine.glimpse("models"))
    assert row[0] == NAME and row[-2:] == ["main", "whole"]
    assert row[1:3] == [f"{size / 1024:.1f}", "KiB"]
    world.models["a/b"] = Model({"main": checkpoint("wide-heads-mixed")})
    world.spoilt = 10**6
    machine.pull("a/b")
    listed = machine.glimpse("models").out
    assert "a/b" in listed and "lacks config.json" in listed
    machine.pull("ms:zai-org/glm-4v-9b")


def test_a_model_is_removed_whole(machine, other_machine):
    machine.pull()
    result = machine.glimpse("models", "--remove", NAME)
    assert result.code == 0 and "free again" in result.out
    assert "glimpse pull" in machine.glimpse("models").out
    assert not (machine.cache / "models--zai-org--glm-4v-9b").exists()
    refused(machine.glimpse("models", "--remove", NAME), "not_found")


def test_a_revision_is_removed_as_python_does_it(machine, other_machine, world):
    """What the other revision needs stays."""
    files = checkpoint().files
    world.models[NAME].branches["v1"] = Revision(files | {SHARDS[0]: changed(files[SHARDS[0]])})
    commit = world.models[NAME].branches["v1"].commit
    for each in (machine, other_machine):
        each.download()
        each.download(revision="v1")
    assert machine.glimpse("models", "--remove", f"{NAME}@v1").code == 0
    script = """
import sys
from huggingface_hub import scan_cache_dir
scan_cache_dir().delete_revisions(sys.argv[1]).execute()
"""
    other_machine.python(script, commit)
    assert tree(machine.cache) == tree(other_machine.cache)
    assert machine.pull(HF_HUB_OFFLINE="1").code == 0
    refused(machine.glimpse("models", "--remove", f"{NAME}@v1"), "not_found")


def test_what_models_share_goes_with_the_last_of_them(machine, other_machine, world):
    """As huggingface_hub removes it, lists and all."""
    other = "a/b"
    # Another commit with the same weights: Python removes by commits.
    world.models[other] = Model({"main": Revision(checkpoint().files | {"README.md": b"# Another\n"})})
    for each in (machine, other_machine):
        for name in (NAME, other):
            each.download(name)
            share(each, name)
    payloads = [path for path in (machine.cache / "blobs").rglob("*") if path.is_file() and len(path.name) == 64]
    assert len(payloads) == 4
    script = """
import sys
from huggingface_hub import scan_cache_dir
info = scan_cache_dir()
[repo] = [repo for repo in info.repos if repo.repo_id == sys.argv[1]]
info.delete_revisions(*(revision.commit_hash for revision in repo.revisions)).execute()
"""
    for name, left in ((NAME, 4), (other, 0)):
        result = machine.glimpse("models", "--remove", name)
        assert result.code == 0, result.err
        other_machine.python(script, name, HF_HUB_DISABLE_XET="0")
        assert tree(machine.cache) == tree(other_machine.cache)
        assert sum(path.exists() for path in payloads) == left


def test_a_list_that_is_not_there_leaves_what_it_would_list(machine):
    machine.download()
    share(machine)
    for path in (machine.cache / "blobs").rglob("*.refs"):
        path.unlink()
    assert machine.glimpse("models", "--remove", NAME).code == 0
    assert len([path for path in (machine.cache / "blobs").rglob("*") if len(path.name) == 64]) == 4


def test_what_is_being_fetched_is_not_removed(machine):
    machine.pull()
    script = """
import subprocess, sys
from pathlib import Path
from filelock import FileLock
lock = sorted(Path(sys.argv[1]).glob(".locks/*/*.lock"))[0]
with FileLock(lock):
    print(subprocess.run(sys.argv[2:], capture_output=True, text=True).stderr)
"""
    said = machine.python(script, str(machine.cache), str(machine.binary), "models", "--remove", NAME)
    assert "[busy]" in said
    assert machine.pull(HF_HUB_OFFLINE="1").code == 0
