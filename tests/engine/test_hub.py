"""Places on a hub: how they are read, what is fetched, and everything that may go wrong on the way."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.engine import hub
from jobs.engine.errors import HubError
from jobs.engine.hub import HubPlace
from tests.hub import LocalHub

TOKEN = "hf_do_not_tell_anybody"
FILES = {
    "README.md": b"about",
    "layer_0/cfg.json": b'{"layer": 0}',
    "layer_0/sae_weights.safetensors": b"weights of layer 0",
    "layer_1/cfg.json": b'{"layer": 1}',
    "layer_1/sae_weights.safetensors": b"weights of layer 1",
    "layer_1/figures/curve.png": b"a picture",
    "layer_1/trainer/ae.pt": b"more weights",
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.point(monkeypatch, cache)
        local.push("lab/saes", FILES)
        yield local


def fetch(place: str, limit: int | None = None) -> hub.Fetched:
    wanted = hub.parse(place)
    assert wanted is not None
    return hub.fetch(wanted, limit)


def refusal(place: str, limit: int | None = None) -> str:
    with pytest.raises(HubError) as raised:
        fetch(place, limit)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("lab/saes", HubPlace("lab/saes")),
        ("lab/saes@v1.0", HubPlace("lab/saes", "v1.0")),
        ("lab/saes/layer_0/width-16k", HubPlace("lab/saes", "", "layer_0/width-16k")),
        ("lab/saes@main/a/params.npz", HubPlace("lab/saes", "main", "a/params.npz")),
        ("L.a_b-1/saes", HubPlace("L.a_b-1/saes")),
    ],
)
def test_a_place_on_a_hub(text: str, place: HubPlace) -> None:
    assert hub.parse(text) == place
    assert str(place) == text


@pytest.mark.parametrize(
    "text",
    """
    saes  /lab/saes  lab/  /saes  lab/saes/  lab//saes  lab/saes//a  lab/saes/../x  lab/..  ../saes  ./saes  ~/saes
    lab/saes@  lab/saes@../x  lab/saes@a/b/..  lab@v1/saes  lab/saes@v1@v2  lab/saes/a@b  package:name  lab/sa:es
    lab/saes/a\\b  lab/-saes  lab/saes.  lab/sa--es  lab/saes.git  https://hub/lab/saes  lab/säes  lab/saes/ä
    """.split(),
)
def test_what_is_no_place_on_a_hub(text: str) -> None:
    assert hub.parse(text) is None
    assert hub.parse("lab/sa es") is None
    assert hub.parse("") is None


@given(st.text(alphabet="ab./@-_\\ \n\0", max_size=20))
def test_no_place_leads_out_of_its_folder(text: str) -> None:
    place = hub.parse(text)
    if place is not None:
        assert str(place) == text
        assert not {"", ".", ".."} & set((place.path or "a").split("/"))


def test_of_a_folder_only_its_own_files_are_fetched(local: LocalHub, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    fetched = hub.fetch(HubPlace("lab/saes", path="layer_1"), 100, lambda *counts: told.append(counts))
    assert fetched.revision == local.branches["lab/saes"]["main"]
    assert fetched.path == cache / f"models--lab--saes/snapshots/{fetched.revision}/layer_1"
    assert files_in(fetched.path) == ["cfg.json", "sae_weights.safetensors", "trainer/ae.pt"]
    assert all((fetched.path / name).read_bytes() == FILES[f"layer_1/{name}"] for name in files_in(fetched.path))
    assert len(local.downloads()) == 3
    size = sum(len(FILES[f"layer_1/{name}"]) for name in files_in(fetched.path))
    assert told[-1] == (size, size)


def test_of_a_file_that_file_and_the_configs_beside_it(local: LocalHub) -> None:
    local.push("lab/saes", FILES | {"layer_1/labels.json": b" " * (hub.MAX_CONFIG_BYTES + 1)})
    fetched = fetch("lab/saes/layer_1/sae_weights.safetensors")
    assert fetched.path.read_bytes() == b"weights of layer 1"
    assert files_in(fetched.path.parent) == ["cfg.json", "sae_weights.safetensors"]
    fetched = fetch("lab/saes/layer_0/cfg.json")
    assert files_in(fetched.path.parent) == ["cfg.json", "sae_weights.safetensors"]


def test_a_commit_stays_what_it_is_though_main_moves_on(local: LocalHub) -> None:
    first = fetch("lab/saes/layer_0/cfg.json")
    local.push("lab/saes", {"layer_0/cfg.json": b"another", "layer_1/cfg.json": b"another"})
    pinned = fetch(f"lab/saes@{first.revision}/layer_1")
    moved = fetch("lab/saes/layer_0")
    assert pinned.revision == first.revision != moved.revision
    assert (pinned.path / "cfg.json").read_bytes() == FILES["layer_1/cfg.json"]
    assert (moved.path / "cfg.json").read_bytes() == b"another"
    asked = len(local.asked)
    assert fetch(f"lab/saes@{first.revision}/layer_1") == pinned
    assert len(local.asked) == asked  # all is there: the hub is not even asked


def test_a_branch(local: LocalHub) -> None:
    commit = local.push("lab/saes", {"cfg.json": b"of a branch"}, branch="v2.0")
    assert fetch("lab/saes@v2.0").revision == commit
    assert "no such revision: lab/saes@v9" in refusal("lab/saes@v9")


def test_offline_what_is_in_the_cache_is_used(local: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fetch("lab/saes/layer_0")
    asked = len(local.asked)
    local.push("lab/saes", {"layer_0/cfg.json": b"newer"})
    local.point(monkeypatch, cache, offline=True)
    assert fetch("lab/saes/layer_0") == before
    assert fetch(f"lab/saes@{before.revision}/layer_0") == before
    assert "not whole in this machine's cache (layer_1/cfg.json" in refusal("lab/saes/layer_1")
    for place in ("lab/others", "lab/saes@v1", "lab/saes@" + "0" * 40):
        said = refusal(place)
        assert place in said
        assert "ALLOW_HUB=1" in said
    assert len(local.asked) == asked


def test_offline_a_cache_that_another_program_filled(
    local: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import hf_hub_download

    for name in ("layer_0/cfg.json", "layer_0/sae_weights.safetensors"):
        hf_hub_download("lab/saes", name, endpoint=local.address)
    local.point(monkeypatch, cache, offline=True)
    assert files_in(fetch("lab/saes/layer_0").path) == ["cfg.json", "sae_weights.safetensors"]


def test_a_wrong_path_names_what_is_there(local: LocalHub) -> None:
    assert refusal("lab/saes/layer_7").endswith("in its top folder there is layer_1, layer_0, README.md.")
    assert "in layer_1 there is" in refusal("lab/saes/layer_1/train/x")
    assert "holds no files of an SAE" in refusal("lab/saes/layer_1/figures")
    assert "no file of an SAE" in refusal("lab/saes/README.md")


@pytest.mark.parametrize("place", ["lab/saes/layer_0", "lab/saes"])
def test_too_much_is_refused_before_anything_is_fetched(local: LocalHub, cache: Path, place: str) -> None:
    assert "too large" in refusal(place, limit=20)
    assert local.downloads() == []
    assert not cache.exists()


def test_too_many_files_are_refused(local: LocalHub) -> None:
    local.push("lab/many", {f"layer_{i}/cfg.json": b"{}" for i in range(hub.MAX_FILES + 1)})
    assert "holds 301 files: name one SAE in it, such as one of layer_0, layer_1," in refusal("lab/many")
    assert local.downloads() == []


def test_more_than_the_disk_holds_is_refused(local: LocalHub) -> None:
    local.extra_files = {"layer_0/more.safetensors": 1 << 60}
    assert "are free" in refusal("lab/saes/layer_0")
    assert local.downloads() == []


def test_a_gated_repository_and_its_token(
    local: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    local.gated, local.token = {"lab/saes"}, TOKEN
    assert "lab/saes@" in (said := refusal("lab/saes/layer_0")) and "set HF_TOKEN" in said
    local.point(monkeypatch, cache, token=f"{TOKEN}, but wrong")
    assert TOKEN not in refusal("lab/saes/layer_0")
    local.point(monkeypatch, cache, token=TOKEN)
    assert len(files_in(fetch("lab/saes/layer_0").path)) == 2
    assert TOKEN not in caplog.text
    assert all(TOKEN.encode() not in p.read_bytes() for p in cache.rglob("*") if p.is_file())


def test_a_token_that_no_header_can_hold_is_not_told(
    local: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.point(monkeypatch, cache, token=f"{TOKEN}\x7fé")
    with pytest.raises(HubError) as raised:
        fetch("lab/saes/layer_0")
    assert TOKEN not in str(raised.value)
    assert raised.value.__cause__ is None and raised.value.__suppress_context__


def test_a_repository_that_is_not_there(local: LocalHub) -> None:
    assert "no repository lab/nothing" in refusal("lab/nothing")


def test_a_hub_in_trouble(local: LocalHub) -> None:
    local.status = 500
    assert "status 500" in refusal("lab/saes")


def test_no_hub_at_all(local: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://name:password@127.0.0.1:1")
    said = refusal("lab/saes")
    assert "cannot be reached for lab/saes" in said
    assert "password" not in said


@pytest.mark.parametrize("trouble", ["cut_bodies", "cut_files"])
def test_a_file_that_came_half_is_never_used(
    local: LocalHub, cache: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    setattr(local, trouble, {"layer_0/sae_weights.safetensors"})
    assert "try again" in refusal("lab/saes/layer_0")
    assert "sae_weights.safetensors" not in str(files_in(cache / "models--lab--saes" / "snapshots"))
    local.point(monkeypatch, cache, offline=True)
    commit = local.branches["lab/saes"]["main"]
    assert "not whole" in refusal(f"lab/saes@{commit}/layer_0")
    setattr(local, trouble, set())
    local.point(monkeypatch, cache)
    whole = fetch("lab/saes/layer_0").path / "sae_weights.safetensors"
    assert whole.read_bytes() == b"weights of layer 0"


def test_a_file_that_was_cut_in_the_cache_is_fetched_again(local: LocalHub) -> None:
    path = fetch("lab/saes/layer_0").path / "sae_weights.safetensors"
    path.resolve().write_bytes(b"half")
    assert (fetch("lab/saes/layer_0").path / "sae_weights.safetensors").read_bytes() == b"weights of layer 0"


def test_more_bytes_than_announced_end_the_download(local: LocalHub) -> None:
    local.extra_files = {"layer_0/sae_weights.safetensors": 3}
    assert "more bytes than it announced" in refusal("lab/saes/layer_0")


@pytest.mark.parametrize("name", ["../x.json", "layer_0/../../x.json", "/etc/x.json", "layer_0//x", "a\\..\\x", "a\nb"])
def test_a_listing_with_a_name_that_leads_out_is_refused(local: LocalHub, cache: Path, name: str) -> None:
    local.extra_files = {name: 5}
    assert "leads elsewhere" in refusal("lab/saes/layer_0")
    assert local.downloads() == []
    assert not cache.exists()


def test_a_listing_without_sizes_is_refused(local: LocalHub) -> None:
    local.unlisted_sizes = {"layer_0/cfg.json"}
    assert "how large" in refusal("lab/saes/layer_0")


def test_a_download_can_be_stopped(local: LocalHub, cache: Path) -> None:
    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        hub.fetch(HubPlace("lab/saes", path="layer_0"), None, stop)
    assert files_in(cache / "models--lab--saes/blobs") == []
