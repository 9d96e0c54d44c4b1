"""`glimpse pull` and `glimpse models` beside huggingface_hub, both before the same stand-in for a hub."""

import pytest

from caches import NAME, Machine, checkpoint
from stand_in import Model, stand_in


@pytest.fixture
def world():
    """The stand-in, with one model."""
    with stand_in() as world:
        world.models[NAME] = Model({"main": checkpoint()})
        yield world


@pytest.fixture
def machine(binary, world, tmp_path):
    return Machine(binary, world, tmp_path / "here")


@pytest.fixture
def other_machine(binary, world, tmp_path):
    return Machine(binary, world, tmp_path / "there")
