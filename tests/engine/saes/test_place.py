"""Which folder or file is meant, and that its files lie in it."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from jobs.engine.saes.place import Place, find_places, folders_in, pickles_in
from tests.engine.saes.cases import case


def touch(*files: Path) -> Path:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"0123")
    return files[0]


def test_a_folder_has_files_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path / "sae" / "cfg.json", tmp_path / "sae" / "checkpoints" / "final.safetensors")
    (tmp_path / "sae" / "b").mkdir()
    os.mkfifo(tmp_path / "sae" / "c")
    place = Place(tmp_path / "sae")
    assert place.has("cfg.json", "checkpoints/final.safetensors")
    assert not place.is_file
    for name in ("b", "c", "absent"):
        assert not place.has("cfg.json", name)
        with pytest.raises(SAELoadError, match=rf"sae/{name} is missing"):
            place.file(name)


def test_a_file_has_no_files(tmp_path: Path) -> None:
    place = Place(touch(tmp_path / "8.pt"))
    assert place.is_file
    assert not place.has("8.pt")
    assert place.file("anything") == tmp_path / "8.pt"


def found(path: Path) -> list[Path]:
    return [place.path for place in find_places(path)]


def test_what_is_meant(tmp_path: Path) -> None:
    alone = touch(tmp_path / "a" / "8.pt")
    assert found(alone) == [alone]
    assert found(tmp_path / "a") == [tmp_path / "a", alone]
    of_several = touch(tmp_path / "b" / "ae.pt", tmp_path / "b" / "config.json")
    assert found(of_several)[0] == found(tmp_path / "b")[0] == tmp_path / "b"
    for name in ("cfg.json", "a.safetensors", "params.npz"):
        assert found(touch(tmp_path / "c" / name)) == [tmp_path / "c"]
    for name in ("README.md", "weights"):
        assert found(touch(tmp_path / "c" / name)) == [tmp_path / "c" / name]
    touch(tmp_path / "d" / "0.pt", tmp_path / "d" / "1.pth")
    assert found(tmp_path / "d") == [tmp_path / "d"]
    assert [p.name for p in pickles_in(tmp_path / "d")] == ["0.pt", "1.pth"]
    assert [p.name for p in folders_in(tmp_path)] == ["a", "b", "c", "d"]


def test_llama_scope_has_its_weights_a_folder_deeper(tmp_path: Path) -> None:
    weights = touch(tmp_path / "a" / "checkpoints" / "final.safetensors", tmp_path / "a" / "hyperparams.json")
    assert found(weights) == found(weights.parent) == found(tmp_path / "a") == [tmp_path / "a"]
    other = touch(tmp_path / "b" / "checkpoints" / "final.safetensors")
    assert found(other) == found(other.parent) == [other.parent]


@pytest.mark.parametrize("name", ["saelens_v6__standard", "sparsify__topk", "gemma_scope__jumprelu"])
def test_a_stray_pickle_beside_a_checkpoint(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sae"
    shutil.copytree(case(name)[1], path)
    torch.save({"step": 1}, path / "trainer_state.pt")
    assert load_sae(path).digest == load_sae(case(name)[1]).digest


def test_a_stray_config_beside_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_text("{}")
    shutil.copy(case("openai__topk")[1], tmp_path / "8.pt")
    assert load_sae(tmp_path).format == "openai"


def test_other_files_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match=r"README\.md is no SAE checkpoint"):
        load_sae(touch(tmp_path / "README.md"))
    with pytest.raises(SAELoadError, match=r"^.{150}\.\.\..{145}/8\.pt does not exist\.$"):
        load_sae(tmp_path.joinpath(*["x" * 200] * 9, *["y" * 200] * 9, "8.pt"))


def test_parts_come_the_nearest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "SAE-L0_6" / "layer5.sae.pt")
    monkeypatch.chdir(tmp_path)
    place = Place(Path("SAE-L0_6/layer5.sae.pt"))
    assert place.parts[:3] == ("layer5.sae", "SAE-L0_6", tmp_path.name)
    assert Place(Path("SAE-L0_6")).parts[:2] == ("SAE-L0_6", tmp_path.name)


def test_links_may_not_lead_out(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside.safetensors", tmp_path / "sae" / "inside")
    folder = tmp_path / "sae"
    (folder / "out").symlink_to(outside)
    (folder / "in").symlink_to("inside")
    (folder / "up").symlink_to(tmp_path)
    assert Place(folder).file("in") == folder / "in"
    for name in ("out", "up/outside.safetensors", "../outside.safetensors"):
        with pytest.raises(SAELoadError, match=f"{Path(name).name} is a link that leads out"):
            Place(folder).file(name)


def test_nor_may_the_only_file_of_a_folder(tmp_path: Path) -> None:
    outside = touch(tmp_path / "8.pt")
    (tmp_path / "sae").mkdir()
    (tmp_path / "sae" / "9.pt").symlink_to(outside)
    with pytest.raises(SAELoadError, match=r"9\.pt is a link"):
        found(tmp_path / "sae")
    assert found(tmp_path / "sae" / "9.pt") == [tmp_path / "sae" / "9.pt"]


def test_a_folder_may_be_a_link_itself(tmp_path: Path) -> None:
    touch(tmp_path / "sae" / "cfg.json")
    (tmp_path / "link").symlink_to("sae")
    assert Place(tmp_path / "link").file("cfg.json") == tmp_path / "link" / "cfg.json"


def cached(tmp_path: Path, repository: str) -> Path:
    """A snapshot as huggingface_hub lays it out: names that link to files named by their content."""
    root = tmp_path / repository
    touch(root / "blobs" / "0a1b", tmp_path / "secret")
    snapshot = root / "snapshots" / "e3f4"
    (snapshot / "layer_5").mkdir(parents=True)
    (snapshot / "cfg.json").symlink_to("../../blobs/0a1b")
    (snapshot / "layer_5" / "9.pt").symlink_to("../../../blobs/0a1b")
    (snapshot / "layer_5" / "out").symlink_to("../../../../secret")
    return snapshot


@pytest.mark.parametrize("kind", ["models", "datasets", "spaces"])
def test_snapshots_of_a_hub_link_to_its_blobs(tmp_path: Path, kind: str) -> None:
    snapshot = cached(tmp_path, f"{kind}--me--saes")
    assert Place(snapshot).file("cfg.json") == snapshot / "cfg.json"
    assert found(snapshot / "layer_5")[1:] == [snapshot / "layer_5" / "9.pt"]
    with pytest.raises(SAELoadError, match="out is a link"):
        Place(snapshot / "layer_5").file("out")


def test_only_of_the_hub_layout_and_if_the_blobs_are_there(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match="is a link"):
        Place(cached(tmp_path, "downloads")).file("cfg.json")
    snapshot = cached(tmp_path / "other", "models--me--saes")
    blobs = snapshot.parent.parent / "blobs"
    blobs.rename(tmp_path / "other" / "blobs")
    blobs.symlink_to("..")
    (snapshot / "bad").symlink_to("../../blobs/secret")
    with pytest.raises(SAELoadError, match="is a link"):
        Place(snapshot).file("bad")


def test_loops_are_missing_files(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SAELoadError, match="a is missing"):
        Place(tmp_path).file("a")
    root = tmp_path / "models--me--saes"
    snapshot = root / "snapshots" / "e3f4"
    touch(snapshot / "cfg.json")
    (root / "blobs").symlink_to("blobs")
    assert Place(snapshot).file("cfg.json")


def test_names_that_cannot_be_shown(tmp_path: Path) -> None:
    touch(tmp_path / "a\nb.pt")
    with pytest.raises(SAELoadError, match="cannot be shown") as refusal:
        found(tmp_path)
    assert "\n" not in str(refusal.value)
