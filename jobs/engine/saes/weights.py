"""Files of tensors, opened without running anything that is in them, and read only as far as they are asked for.

safetensors hold no code. Of pickles (.pt, .pth) only tensors and plain values are read (torch's ``weights_only``), of
.npz only arrays of numbers. Shapes are checked before anything is made of them.
"""

import math
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.text import clip
from jobs.engine.saes.zips import zip_entries

PICKLES = (".pt", ".pth")
MAX_BYTES = 64 << 30  # of a file of weights
MAX_TENSORS = 1000
MAX_BITS = 1000  # of a whole number
MAX_PICKLE_BYTES = 1 << 20  # of a .pt's structure, without its tensors
MAX_INFLATION = 20  # of a compressed .npz: weights hardly compress
_FLOATS = {torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float32: "float32", torch.float64: "float64"}
_SAFETENSORS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


@dataclass(frozen=True)
class Info:
    """``dtype`` is None where the tensor does not hold floats."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None


class Weights:
    """The tensors of ``file`` by name, and of a pickle also its other ``values``: strings, numbers, lists, dicts."""

    def __init__(
        self,
        file: Path,
        infos: Mapping[str, Info],
        read: Callable[[str], Tensor],
        values: Mapping[str, Any] | None = None,
    ) -> None:
        _check_number(file, len(infos))
        self.file, self.infos, self.values, self._read = file, infos, values or {}, read

    def __contains__(self, name: str) -> bool:
        return name in self.infos

    @property
    def names(self) -> set[str]:
        return {*self.infos, *self.values}

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.infos:
            raise SAELoadError(f"{self.file} has no tensor {name}.")
        return self.infos[name].shape

    def length(self, name: str) -> int:
        """Of a vector. Sizes come from biases, which unlike matrices have no orientation."""
        shape = self.shape(name)
        if len(shape) != 1 or not shape[0]:
            raise SAELoadError(f"{self.file} holds {name} as {clip(list(shape))}, where a vector is needed.")
        return shape[0]

    def rows(self, name: str) -> int:
        return self._matrix(name)[0]

    def columns(self, name: str) -> int:
        return self._matrix(name)[1]

    def dtype_name(self, name: str) -> str:
        self.shape(name)
        dtype = self.infos[name].dtype
        return "no floats" if dtype is None else _FLOATS[dtype]

    def tensor(self, name: str, *shape: int) -> Tensor:
        """The tensor as float32 of its own memory, all finite. Raises SAELoadError, also on another ``shape``."""
        if (found := self.shape(name)) != shape:
            hint = "it is stored transposed" if found == shape[::-1] else "the tensors do not belong together"
            asked = f"{list(shape)} is needed, by the sizes of the biases"
            raise SAELoadError(f"{self.file} holds {name} as {clip(list(found))} where {asked}: {hint}.")
        if self.infos[name].dtype is None:
            raise SAELoadError(f"{self.file} holds {name} as no floats of 16, 32 or 64 bits, which are needed.")
        # A copy, for the reader may map the file: weights must not change, or vanish, with it.
        return finite(self._read(name).to(torch.float32, copy=True), f"{name} in {self.file}")

    def number(self, name: str) -> float:
        """A single number, stored as a tensor of any kind or as a plain value."""
        if name in self.values:
            value = self.values[name]
        elif math.prod(shape := self.shape(name)) == 1:
            value = self._read(name).reshape(()).item()
        else:
            raise SAELoadError(f"{self.file} holds {name} as {clip(list(shape))}, where a single number is needed.")
        if type(value) not in (int, float) or (type(value) is int and value.bit_length() > MAX_BITS):
            raise SAELoadError(f"{self.file} holds {name} as {clip(value)}, where a single number is needed.")
        return _finite_number(float(value), name, self.file)

    def integers(self, name: str) -> list[int]:
        """A vector of at most MAX_TENSORS whole numbers."""
        few = self.length(name) <= MAX_TENSORS and self.infos[name].dtype is None
        numbers = self._read(name).tolist() if few else []
        if not few or not all(type(number) is int for number in numbers):
            raise SAELoadError(f"{self.file} holds {name} as something other than a few whole numbers.")
        return [int(number) for number in numbers]

    def only(self, *names: str, optional: tuple[str, ...] = ()) -> None:
        """Raise SAELoadError where one of ``names`` is missing, or anything else but ``optional`` is there."""
        if missing := [name for name in names if name not in self.names]:
            raise SAELoadError(f"{self.file} has no tensor {missing[0]}, which its format needs.")
        if unknown := sorted(self.names - {*names, *optional}):
            raise SAELoadError(f"{self.file} holds {clip(unknown[0])}, which its format does not have.")

    def _matrix(self, name: str) -> tuple[int, int]:
        shape = self.shape(name)
        if len(shape) != 2 or 0 in shape:
            raise SAELoadError(f"{self.file} holds {name} as {clip(list(shape))}, where a matrix is needed.")
        return shape[0], shape[1]


def open_weights(file: Path) -> Weights:
    """Open a .safetensors, .npz, .pt or .pth file. Raises SAELoadError where it is damaged, too large or unsafe."""
    if (size := file.stat().st_size) > MAX_BYTES:
        raise SAELoadError(f"{file} is {size >> 30} GiB large; at most {MAX_BYTES >> 30} GiB are read.")
    if file.suffix == ".safetensors":
        return _open_safetensors(file)
    if file.suffix == ".npz":
        return _open_npz(file)
    return _open_pickle(file)


def _check_number(file: Path, tensors: int) -> None:
    if tensors > MAX_TENSORS:
        raise SAELoadError(f"{file} holds {tensors} tensors: it is no SAE.")


def finite(tensor: Tensor, what: str) -> Tensor:
    """``tensor`` itself, if it holds neither NaN nor infinity."""
    # NaN spreads through aminmax, so two numbers tell, without a mask as large as the weights.
    if tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax())).all():
        raise SAELoadError(f"{what} holds NaN or infinite values: the checkpoint is damaged or training diverged.")
    return tensor


def _finite_number(value: float, name: str, file: Path) -> float:
    if not math.isfinite(value):
        raise SAELoadError(f"{name} in {file} is NaN or infinite: the checkpoint is damaged or training diverged.")
    return value


def _open_safetensors(file: Path) -> Weights:
    """The reader checks the header against the size of the file, and the shapes against the header."""
    try:
        with safe_open(file, framework="pt") as weights:
            names = weights.keys()
            _check_number(file, len(names))
            slices = {name: weights.get_slice(name) for name in names}
            infos = {n: Info(tuple(s.get_shape()), _SAFETENSORS.get(s.get_dtype())) for n, s in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise SAELoadError(f"{file} is not a whole safetensors file ({clip(error)}): download it again.") from error

    def read(name: str) -> Tensor:
        try:
            with safe_open(file, framework="pt") as weights:
                tensor: Tensor = weights.get_tensor(name)
                return tensor
        except (SafetensorError, OSError, ValueError, AttributeError) as error:
            raise SAELoadError(f"{file} holds {clip(name)} as what cannot be read ({clip(error)}).") from error

    return Weights(file, infos, read)


def _open_pickle(file: Path) -> Weights:
    _check_torch_zip(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise SAELoadError(
            f"{file} holds more than tensors and plain values, which could run code when read: it is not opened; "
            "save its state dict, or take the safetensors."
        ) from error
    except Exception as error:  # torch raises many kinds over a damaged file
        raise SAELoadError(f"{file} is not a whole torch file ({clip(error)}): download it again.") from error
    if not isinstance(found, dict):
        raise SAELoadError(f"{file} holds no state dict but a {type(found).__name__}: save the SAE's state dict.")
    if unnamed := [name for name in found if not isinstance(name, str)]:
        raise SAELoadError(f"{file} holds no state dict, for {clip(unnamed[0])} is no name: save the SAE's state dict.")
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    _check_number(file, len(tensors))
    for name, tensor in tensors.items():
        if not _is_plain(tensor, file.stat().st_size):
            raise SAELoadError(f"{file} holds {clip(name)} as something other than a plain tensor.")
    infos = {n: Info(tuple(t.shape), t.dtype if t.dtype in _FLOATS else None) for n, t in tensors.items()}
    values = {name: value for name, value in found.items() if name not in tensors}
    return Weights(file, infos, lambda name: tensors[name].detach(), values)


def _is_plain(tensor: Tensor, file_size: int) -> bool:
    """Whether its numbers are in the file, each once: strides of a stored view can name one of them a million times."""
    if tensor.is_nested or tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return type(tensor) in (Tensor, nn.Parameter) and tensor.numel() * tensor.element_size() <= file_size


def _check_torch_zip(file: Path) -> None:
    """torch's own format is a zip file without compression: whatever is read from it has at most its size."""
    try:
        entries = zip_entries(file)
    except ValueError as error:
        raise SAELoadError(f"{file} is not a whole torch file ({clip(error)}): {_mend(file)}.") from error
    structure = sum(e.file_size for e in entries if "/data/" not in e.filename)
    if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or structure > MAX_PICKLE_BYTES:
        raise SAELoadError(f"{file} is not laid out as torch writes its files: it is not opened.")


def _mend(file: Path) -> str:
    """What to do about a file that is not a whole zip file. Those of torch before 1.6 never were."""
    with file.open("rb") as stream:
        begun = stream.read(2) in (b"PK", b"")
    return "download it again" if begun else "load and save it with a torch of today, or download it again"


def _open_npz(file: Path) -> Weights:
    try:
        entries = zip_entries(file)
        _check_number(file, len(entries))
        _check_inflation(file, entries)
        with zipfile.ZipFile(file) as archive:
            infos = {e.filename.removesuffix(".npy"): _npy_info(file, archive, e) for e in entries}
    except SAELoadError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds over a damaged file
        raise SAELoadError(f"{file} is not a whole npz file ({clip(error)}): download it again.") from error

    def read(name: str) -> Tensor:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                array = np.ascontiguousarray(arrays[name])
                return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False)).reshape(
                    infos[name].shape
                )
        except Exception as error:
            raise SAELoadError(f"{file} is not a whole npz file ({clip(error)}): download it again.") from error

    return Weights(file, infos, read)


def _check_inflation(file: Path, entries: list[zipfile.ZipInfo]) -> None:
    whole = sum(entry.file_size for entry in entries)
    if whole > MAX_BYTES or whole > MAX_INFLATION * file.stat().st_size + MAX_PICKLE_BYTES:
        raise SAELoadError(f"{file} would unpack to {whole >> 20} MiB, which weights do not do: it is not opened.")


def _npy_info(file: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Info:
    """Shape and dtype from an array's header, checked against its size. Raises SAELoadError and ValueError."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream, max_header_size=10_000)
        header = stream.tell()
    if dtype.hasobject:
        raise SAELoadError(
            f"{file} holds {clip(entry.filename)} as Python objects, which could run code when read: it is not opened."
        )
    if math.prod(shape) * dtype.itemsize != entry.file_size - header:
        raise ValueError(f"{clip(entry.filename)} does not have the size that it says")
    floats = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
    return Info(tuple(shape), floats.get(dtype.name))
