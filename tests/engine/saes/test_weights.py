"""Files of tensors: what is read of them, and how."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.text import clip
from jobs.engine.saes.weights import MAX_TENSORS, Weights, finite, open_weights
from jobs.engine.saes.zips import zip_entries

TENSORS = {
    "matrix": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor([0.5, 1.5], dtype=torch.float16),
    "double": torch.tensor([0.1], dtype=torch.float64),
    "whole": torch.tensor([3, 4]),
    "one": torch.tensor(2.5),
    "bad": torch.tensor([1.0, math.nan]),
    "nothing": torch.zeros(0),
}


def save_npz(tensors: dict[str, Tensor], file: Path) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
    np.savez(file, **arrays)


WRITERS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    ".safetensors": save_file,
    ".pt": torch.save,
    ".npz": save_npz,
}


@pytest.fixture(params=WRITERS)
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Weights:
    file = tmp_path / f"weights{request.param}"
    WRITERS[request.param](TENSORS, file)
    return open_weights(file)


def test_shapes_and_dtypes_are_known_before_anything_is_read(weights: Weights) -> None:
    assert weights.names == set(TENSORS)
    assert "matrix" in weights
    assert (weights.rows("matrix"), weights.columns("matrix"), weights.length("half")) == (2, 3, 2)
    dtypes = [weights.dtype_name(name) for name in ("matrix", "half", "double", "whole")]
    assert dtypes == ["float32", "float16", "float64", "no floats"]


def test_tensors_are_float32_copies(weights: Weights) -> None:
    matrix = weights.tensor("matrix", 2, 3)
    matrix += 1
    assert torch.equal(weights.tensor("matrix", 2, 3), TENSORS["matrix"])
    assert weights.tensor("half", 2).dtype == weights.tensor("double", 1).dtype == torch.float32


def test_numbers(weights: Weights) -> None:
    assert (weights.number("one"), weights.integers("whole")) == (2.5, [3, 4])


@pytest.mark.parametrize(
    ("ask", "fault"),
    [
        (lambda w: w.shape("absent"), "no tensor absent"),
        (lambda w: w.length("matrix"), r"matrix as \[2, 3\], where a vector"),
        (lambda w: w.length("nothing"), r"nothing as \[0\], where a vector"),
        (lambda w: w.rows("half"), r"half as \[2\], where a matrix"),
        (lambda w: w.tensor("matrix", 3, 2), "stored transposed"),
        (lambda w: w.tensor("matrix", 4, 2), "do not belong together"),
        (lambda w: w.tensor("whole", 2), "whole as no floats of 16, 32 or 64 bits"),
        (lambda w: w.tensor("bad", 2), "bad in .* NaN or infinite"),
        (lambda w: w.number("half"), r"half as \[2\], where a single number"),
        (lambda w: w.integers("half"), "few whole numbers"),
        (lambda w: w.only("matrix", "absent"), "no tensor absent"),
        (lambda w: w.only("matrix", optional=("half", "double", "one", "bad", "nothing")), "holds 'whole'"),
    ],
)
def test_refuses(weights: Weights, ask: Callable[[Weights], object], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*weights\.)(?=.*{fault})"):
        ask(weights)


def test_arrays_of_other_byte_orders_and_layouts(tmp_path: Path) -> None:
    values = np.arange(6, dtype=">f4").reshape(2, 3)
    np.savez(tmp_path / "w.npz", big=values, columns=np.asfortranarray(values.astype("<f4")))
    weights = open_weights(tmp_path / "w.npz")
    assert torch.equal(weights.tensor("big", 2, 3), TENSORS["matrix"])
    assert torch.equal(weights.tensor("columns", 2, 3), TENSORS["matrix"])


def test_compressed_arrays(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "w.npz", matrix=TENSORS["matrix"].numpy())
    assert torch.equal(open_weights(tmp_path / "w.npz").tensor("matrix", 2, 3), TENSORS["matrix"])


def opened(tmp_path: Path, content: Any) -> Weights:
    torch.save(content, tmp_path / "w.pt")
    return open_weights(tmp_path / "w.pt")


def test_plain_values_of_a_pickle(tmp_path: Path) -> None:
    weights = opened(
        tmp_path, {"k": 5, "name": "TopK", "state": {"k": 5}, "yes": True, "much": 10**400, "inf": math.inf}
    )
    assert weights.values["state"] == {"k": 5}
    assert weights.number("k") == 5.0
    for name, fault in (("name", "'TopK'"), ("yes", "True"), ("much", "1329 bits"), ("inf", "infinite"), ("b", "no")):
        with pytest.raises(SAELoadError, match=rf"w\.pt.*{fault}|inf in .*w\.pt is NaN or infinite"):
            weights.number(name)


def test_parameters_need_no_gradient(tmp_path: Path) -> None:
    tensor = opened(tmp_path, {"w": torch.nn.Parameter(torch.ones(2))}).tensor("w", 2)
    assert (type(tensor), tensor.requires_grad) == (Tensor, False)


@pytest.mark.parametrize(
    ("content", "fault"),
    [([1], " but a list"), (torch.ones(1), " but a Tensor"), ({"a": 1, 1: torch.ones(1)}, ", for 1 is no name")],
)
def test_a_pickle_must_be_a_state_dict(tmp_path: Path, content: Any, fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"w\.pt holds no state dict{fault}"):
        opened(tmp_path, content)


def test_pickles_of_an_old_torch(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(SAELoadError, match=r"w\.pt .*: load and save it with a torch of today, or download it again"):
        open_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(1000, 1000),
        torch.empty(2, 2, device="meta"),
        torch.eye(3).to_sparse(),
    ],
)
def test_tensors_must_have_their_numbers_in_the_file(tmp_path: Path, tensor: Tensor) -> None:
    with pytest.raises(SAELoadError, match=r"w\.pt holds 'w' as something other than a plain tensor"):
        opened(tmp_path, {"w": tensor})


@pytest.mark.parametrize("suffix", WRITERS)
def test_too_many_tensors(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"w{suffix}"
    WRITERS[suffix]({f"t{i}": torch.zeros(1) for i in range(MAX_TENSORS + 1)}, file)
    with pytest.raises(SAELoadError, match=r"w\..* holds 1001 tensors"):
        open_weights(file)


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_files_that_were_cut(tmp_path: Path, suffix: str, part: float) -> None:
    file = tmp_path / f"w{suffix}"
    WRITERS[suffix]({"w": torch.ones(100, 100)}, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    with pytest.raises(SAELoadError, match=r"w\.\w+ is not a whole \w+ file .*download it again"):
        open_weights(file)


def test_zip_files_that_readers_differ_on(tmp_path: Path) -> None:
    """A second table of contents, found only by readers that believe the end record's offset."""
    file = tmp_path / "w.npz"
    for name in ("first", "second"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(name, b"0123")
    file.write_bytes((tmp_path / "first").read_bytes() + (tmp_path / "second").read_bytes())
    assert zipfile.ZipFile(file).namelist() == ["second"]
    with pytest.raises(ValueError, match="table of contents"):
        zip_entries(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = b"hello"
    with pytest.raises(ValueError, match="does not end"):
        zip_entries(file)


def test_zip_files_with_two_entries_of_a_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", b"0")
        archive.writestr("a", b"1")
    with pytest.raises(ValueError, match="same name"):
        zip_entries(tmp_path / "w.npz")


def test_zip_files_with_numbers_of_64_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As files of more than 4 GiB have them."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    np.savez(tmp_path / "w.npz", matrix=TENSORS["matrix"].numpy())
    assert b"PK\x06\x06" in (tmp_path / "w.npz").read_bytes()
    assert torch.equal(open_weights(tmp_path / "w.npz").tensor("matrix", 2, 3), TENSORS["matrix"])


def test_finite_looks_at_every_number() -> None:
    for fault in (math.nan, math.inf, -math.inf):
        with pytest.raises(SAELoadError, match="w holds NaN or infinite"):
            finite(torch.tensor([[0.0, 1.0], [2.0, fault]]), "w")
    assert finite(torch.zeros(0), "w").numel() == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb", "'a\\nb'"),
        ("x" * 10**6, "'" + "x" * 76 + "..."),
        (2**2000, "a number of 2001 bits"),
        ([1, [2, [3, [4]]]], "[1, [2, ...]]"),
        (list(range(10**6)), "[0, 1, 2, 3, 4, ...]"),
        ({"a": {"b": [1]}, 2: None}, "{'a': {'b': ...}, 2: None}"),
        (b"\0", r"b'\x00'"),
        (torch.zeros(3), "a Tensor"),
        (ValueError("a\n\x1b[31m"), "a ?[31m"),
    ],
)
def test_clip_is_short_and_on_one_line(value: object, text: str) -> None:
    assert clip(value) == text
