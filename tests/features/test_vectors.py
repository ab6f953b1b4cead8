"""Decoder rows in the storage: exact, written once, and mended where a file was cut off."""

from pathlib import Path

import numpy as np
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client

from features import vectors
from features.evidence import NotFound
from tests.factories import World, make_world


@pytest.fixture
def world(db: None, settings, tmp_path: Path) -> World:
    local = settings.LOCAL_STORAGE | {"OPTIONS": {"location": tmp_path}}
    settings.STORAGES = settings.STORAGES | {"default": local}
    return make_world(d_sae=vectors.ROWS + 20)


def decoder(world: World) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(world.sae.d_sae, world.sae.d_out)).astype(np.float32)


def pieces(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[i : i + vectors.ROWS] for i in range(0, len(rows), vectors.ROWS)]


def test_every_row_comes_back_exactly(world: World) -> None:
    rows = decoder(world)
    vectors.keep(vectors.place_of(world.sae), pieces(rows))
    for index in (0, vectors.ROWS - 1, vectors.ROWS, world.sae.d_sae - 1):
        assert np.array_equal(vectors.vector_of(world.sae, index), rows[index])


def test_a_file_that_was_cut_off_is_written_again_and_a_whole_one_is_left(world: World) -> None:
    rows, place = decoder(world), vectors.place_of(world.sae)
    vectors.keep(place, pieces(rows))
    default_storage.delete(f"{place}/1.f4")
    default_storage.save(f"{place}/1.f4", ContentFile(b"half a r"))
    with pytest.raises(NotFound):
        vectors.vector_of(world.sae, vectors.ROWS)
    before = default_storage.get_modified_time(f"{place}/0.f4")
    vectors.keep(place, pieces(rows))
    assert np.array_equal(vectors.vector_of(world.sae, vectors.ROWS), rows[vectors.ROWS])
    assert default_storage.get_modified_time(f"{place}/0.f4") == before


def test_the_api_gives_it_with_the_place_where_it_belongs(world: World, client: Client) -> None:
    rows, address = decoder(world), f"/api/v1/saes/{world.sae.slug}/features/3/vector"
    assert client.get(address).status_code == 401
    client.force_login(world.user)
    missing = client.get(address)
    assert missing.status_code == 404
    assert missing.json()["detail"].startswith("The vector of feature 3 is not kept here")
    vectors.keep(vectors.place_of(world.sae), pieces(rows))
    found = client.get(address).json()
    assert (found["hook"], found["layer"]) == ("resid_post", 6)
    assert found["vector"] == rows[3].tolist()
    assert client.get(address.replace("/3/", "/9999/")).status_code == 404
