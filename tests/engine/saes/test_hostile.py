"""Whatever is in a checkpoint's place, load_sae gives an SAE or one sentence, and nothing else happens."""

import io
import json
import os
import pickle
import random
import shutil
import signal
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import SAE, load_sae
from tests.engine.saes.cases import GOOD, case

SECONDS = 20  # after which something hangs
EXAMPLES = 25  # times some
OPTIONAL = {"lm_config.json", "runner_cfg.json", "sparsity.safetensors"}
PICKLED = ["openai__topk", "qwen_scope__topk", "goodfire__standard", "dictionary_learning__AutoEncoderTopK"]


class HangsError(BaseException):
    """Not an OSError, as TimeoutError is."""


def test_all_fixtures_load() -> None:
    """Or else all of the following would hold for nothing."""
    assert all(attempt(case(name)[1]) for name in GOOD)


def attempt(path: Path) -> SAE | None:
    """The SAE at ``path``, or None where it is refused as it should be."""

    def give_up(*_: object) -> None:
        raise HangsError

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        sae = load_sae(path, k=6 if "qwen" in str(path) else None)
    except SAELoadError as error:
        _check_sentence(str(error), path)
        return None
    finally:
        signal.alarm(0)
    assert all(torch.isfinite(buffer).all() and not buffer.requires_grad for buffer in sae.buffers())
    assert sae(torch.zeros(2, sae.d_in)).shape == (2, sae.d_out)
    json.dumps(sae.card())
    return sae


def _check_sentence(text: str, path: Path) -> None:
    assert text.isprintable()
    assert path.name in text
    assert len(text.replace(str(path), "").split("known are")[0]) < 600


@contextmanager
def copied(name: str) -> Iterator[Path]:
    """The checkpoint of a fixture in a folder of its own, which is the current one; nothing may come to be there."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        facts, path = case(name)
        target = Path(folder) / "fixture" / facts["load_path"]
        shutil.copytree(path if path.is_dir() else path.parent, target if path.is_dir() else target.parent)
        os.chdir(folder)
        try:
            yield target
            assert [p.name for p in Path(folder).iterdir()] == ["fixture"]
            assert not list(Path(folder).rglob("PWNED"))
        finally:
            os.chdir(before)


def files(path: Path, *suffixes: str) -> list[Path]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [p for p in found if p.suffix in suffixes]


WEIGHTS = (".safetensors", ".npz", ".pt", ".pth")
WITH_CONFIG = [name for name in GOOD if files(case(name)[1], ".json")]
WORDS = [
    *("relu", "topk", "jumprelu", "gated", "standard", "batchtopk", "dataset-wise", "inference", "layer_norm", "sae"),
    *("AutoEncoder", "AutoEncoderTopK", "BatchTopKSAE", "../../etc/passwd", "", "a\nb", "\0", "\ud800", "x" * 5000),
]
NUMBERS = st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64, 10**4000, -(10**400)]) | st.integers()
LEAVES = st.none() | st.booleans() | NUMBERS | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5)
JSON = st.recursive(LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))


def nested(depth: int, closed: bool = True) -> str:
    return "[" * depth + "]" * (depth if closed else 0)


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(st.sampled_from(WITH_CONFIG), st.data())
def test_configs_with_other_fields(name: str, data: st.DataObject) -> None:
    with copied(name) as path:
        file = data.draw(st.sampled_from(files(path, ".json")))
        config = json.loads(file.read_text())
        for _ in range(data.draw(st.integers(1, 3))):
            part = config
            while (key := data.draw(st.sampled_from([*part, "k", "d_sae"]))) in part and isinstance(part[key], dict):
                if not part[key] or data.draw(st.booleans()):
                    break
                part = part[key]
            part[key] = data.draw(JSON)
            if data.draw(st.booleans()):
                del part[key]
        file.write_text(json.dumps(config))
        attempt(path)


@pytest.mark.parametrize("name", WITH_CONFIG)
@pytest.mark.parametrize(
    "value", [nested(500), nested(100_000, closed=False), "1" * 5000, "NaN", '"\\ud800"', '{"":0}']
)
def test_configs_with_one_value_everywhere(name: str, value: str) -> None:
    with copied(name) as path:
        for file in files(path, ".json"):
            whole = file.read_text()
            keys = list(json.loads(whole))
            file.write_text("{" + ", ".join(f"{json.dumps(key)}: {value}" for key in keys) + "}")
            attempt(path)
            for key in keys:
                fields = {k: json.dumps(v) for k, v in json.loads(whole).items()} | {key: value}
                file.write_text("{" + ", ".join(f"{json.dumps(k)}: {v}" for k, v in fields.items()) + "}")
                attempt(path)
            file.write_text(whole)


def damage(content: bytes, data: st.DataObject) -> bytes:
    """Cut, flipped or overwritten, mostly near the ends, where the structure is."""
    place = data.draw(st.integers(0, len(content)) | st.integers(0, 300) | st.integers(-300, -1)) % (len(content) + 1)
    kind = data.draw(st.sampled_from(["cut", "flip", "write", "insert", "append", "zero"]))
    some = data.draw(st.binary(min_size=1, max_size=20))
    if kind == "cut":
        return content[:place]
    if kind == "append":
        return content + some
    if kind == "zero":
        return content[:place] + bytes(min(1000, len(content) - place)) + content[place + 1000 :]
    if kind == "flip" and content:
        flipped = bytearray(content)
        for seed in some:
            flipped[random.Random(seed * 7919 + place).randrange(len(flipped))] ^= 1 << seed % 8
        return bytes(flipped)
    return content[:place] + some + content[place + (len(some) if kind == "write" else 0) :]


@settings(max_examples=4 * EXAMPLES, deadline=None)
@given(st.sampled_from(GOOD), st.data())
def test_damaged_files(name: str, data: st.DataObject) -> None:
    with copied(name) as path:
        file = data.draw(st.sampled_from(files(path, *WEIGHTS, ".json")))
        for _ in range(data.draw(st.integers(1, 2))):
            file.write_bytes(damage(file.read_bytes(), data))
        attempt(path)


OFFSETS = st.lists(st.integers(0, 20_000) | NUMBERS, max_size=3)
ENTRIES: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I64", "BOOL", "C64", "F8_E4M3", "F4", "U8", "X"])
        | JSON,
        "shape": st.lists(st.sampled_from([0, 1, 24, 64, 2**32, 2**63, 2**64, -1]), max_size=4) | JSON,
        "data_offsets": OFFSETS | JSON,
    },
)
SAFETENSORS = [name for name in GOOD if files(case(name)[1], ".safetensors")]


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(st.sampled_from(SAFETENSORS), st.data())
def test_safetensors_headers(name: str, data: st.DataObject) -> None:
    with copied(name) as path:
        file = data.draw(st.sampled_from(files(path, ".safetensors")))
        content = file.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        for key in data.draw(st.lists(st.sampled_from([*header, "new\nname", "__metadata__"]), max_size=3)):
            known = header.get(key) if data.draw(st.booleans()) else {}
            fields: dict[str, Any] = data.draw(ENTRIES)
            entry = (known | fields) if isinstance(known, dict) else fields
            header[key] = entry if data.draw(st.integers(0, 9)) else data.draw(JSON)
        text = json.dumps(header).encode()
        said = data.draw(st.just(len(text)) | st.sampled_from([0, 1, 2**31, 2**63, 2**64 - 1, len(text) + 1]))
        file.write_bytes(said.to_bytes(8, "little") + text + content[8 + length :])
        attempt(path)


@pytest.mark.parametrize("count", [1001, 20_000])
def test_thousands_of_tensors(count: int, tmp_path: Path) -> None:
    with copied("saelens_v6__standard") as path:
        text = json.dumps(
            {f"t{i}": {"dtype": "F32", "shape": [], "data_offsets": [4 * i, 4 * i + 4]} for i in range(count)}
        )
        content = len(text).to_bytes(8, "little") + text.encode() + bytes(4 * count)
        (path / "sae_weights.safetensors").write_bytes(content)
        assert attempt(path) is None
    with copied("openai__topk") as path:
        one = torch.zeros(1)
        torch.save({f"t{i}": one for i in range(count)}, path)
        assert attempt(path) is None


def test_a_tensor_of_a_thousand_dimensions() -> None:
    with copied("saelens_v6__standard") as path:
        text = json.dumps({"b_enc": {"dtype": "F32", "shape": [1] * 5000, "data_offsets": [0, 4]}})
        (path / "sae_weights.safetensors").write_bytes(len(text).to_bytes(8, "little") + text.encode() + bytes(4))
        assert attempt(path) is None


class Evil:
    def __init__(self, call: Callable[..., object], *arguments: object) -> None:
        self.call = (call, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def evils() -> list[Evil]:
    return [Evil(open, "PWNED", "w"), Evil(os.system, "touch PWNED"), Evil(eval, "open('PWNED', 'w')")]


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / "ae.pt" if path.is_dir() else path
    torch.save(change(torch.load(file, weights_only=True)), file)


def replace_value(path: Path, key: str, value: object) -> None:
    rewrite(path, lambda d: d | {key: value})


@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.parametrize("evil", evils())
def test_pickles_that_run_code(name: str, evil: Evil) -> None:
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda d: d | {"more": evil},
        lambda d: dict.fromkeys(d, evil),
        lambda d: [evil, d],
        lambda d: d | {"activation_state_dict": {"k": evil}},
    ]
    for change in changes:
        with copied(name) as path:
            rewrite(path, change)
            assert attempt(path) is None
    with copied(name) as path:
        file = path / "ae.pt" if path.is_dir() else path
        file.write_bytes(pickle.dumps(evil))
        assert attempt(path) is None
        torch.save({"more": evil}, file, _use_new_zipfile_serialization=False)
        assert attempt(path) is None


MILLION = torch.zeros(1).expand(1000, 1000)
STRANGE: dict[str, Callable[[], object]] = {
    "one number a million times": lambda: MILLION,
    "of which rows are asked for": lambda: MILLION[:64, :24],
    "without numbers": lambda: torch.empty(64, 24, device="meta"),
    "huge without numbers": lambda: torch.empty(2**40, 2**20, device="meta"),
    "sparse": lambda: torch.eye(24).to_sparse(),
    "sparse rows": lambda: torch.eye(24).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(64, 24), 0.1, 0, torch.qint8),
    "complex": lambda: torch.zeros(64, 24, dtype=torch.complex64),
    "truth values": lambda: torch.zeros(64, 24, dtype=torch.bool),
    "eight bits": lambda: torch.zeros(64, 24, dtype=torch.float8_e4m3fn),
    "empty": lambda: torch.zeros(0),
    "a size": lambda: torch.Size([3]),
    "a device": lambda: torch.device("cpu"),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, that some kinds are not to stay
@pytest.mark.parametrize("name", PICKLED)
@pytest.mark.parametrize("kind", STRANGE)
def test_strange_tensors(name: str, kind: str) -> None:
    for key in torch.load(files(case(name)[1], ".pt", ".pth")[0], weights_only=True):
        with copied(name) as path:
            replace_value(path, key, STRANGE[kind]())
            attempt(path)


@pytest.mark.parametrize("name", PICKLED)
def test_parameters_become_plain_tensors(name: str) -> None:
    with copied(name) as path:
        rewrite(path, lambda d: {k: torch.nn.Parameter(v) if is_float(v) else v for k, v in d.items()})
        assert attempt(path)


def is_float(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


@pytest.mark.parametrize("key", ["activation", "activation_state_dict", "activation.k", "pre_bias", "a\nb"])
def test_values_that_hold_themselves(key: str) -> None:
    billion: list[Any] = ["ha"]
    for _ in range(60):
        billion = [billion, billion, billion]
    itself: list[Any] = []
    itself.append(itself)
    for value in (billion, itself, {"k": billion}, {"k": itself, "postact_fn": billion}, {(1, 2): 3, None: 4}):
        with copied("openai__topk") as path:
            replace_value(path, key, value)
            attempt(path)


def zipped(file: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def unzipped(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", [*PICKLED, "gemma_scope__jumprelu"])
def test_zip_bombs(name: str) -> None:
    with copied(name) as path:
        file = files(path, *WEIGHTS)[0]
        entries = unzipped(file)
        size = sum(map(len, entries.values()))
        zipped(file, entries | {"8/data/99": bytes(max(30 << 20, 30 * size))})
        assert attempt(path) is None
        zipped(file, entries | {f"more/{i}": b"" for i in range(20_000)}, zipfile.ZIP_STORED)
        assert attempt(path) is None


@pytest.mark.parametrize("name", [*PICKLED, "gemma_scope__jumprelu"])
def test_zip_files_that_show_different_readers_different_things(name: str) -> None:
    with copied(name) as path:
        file = files(path, *WEIGHTS)[0]
        content = file.read_bytes()
        for changed in (content + content, b"before" + content, content + b"after", content[:-2] + b"\4\0PK\5\6"):
            file.write_bytes(changed)
            assert attempt(path) is None


def npy(shape: str, content: bytes, descr: str = "'<f4'", version: bytes = b"\1\0") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header = header.ljust(-(-(len(header) + 11) // 64) * 64 - 11) + b"\n"
    length = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + length + header + content


@pytest.mark.parametrize(
    "entry",
    [
        npy("(1099511627776, 24)", bytes(96)),
        npy("(-64, -24)", bytes(64 * 24 * 4)),
        npy("(64, True)", bytes(256)),
        npy("64", bytes(256)),
        npy("(64.0,)", bytes(256)),
        npy("(64,)", bytes(256), version=b"\x09\x09"),
        npy("(64,)", bytes(256), version=b"\3\0"),
        npy("(64,)", bytes(256), descr="'>f4'"),
        npy("(64,)", bytes(256), descr="'|O'"),
        npy("(64,)", bytes(256), descr="[('a', '|O')]"),
        npy("(64,)", bytes(256), descr="'<c4'"),
        npy("(64,)", b"", descr="'|V0'"),
        npy("(64,)", bytes(256), descr="__import__('os').system('touch PWNED')"),
        npy("(" * 3000 + ")" * 3000, bytes(256)),
        npy("(64,)" + " " * 9000, bytes(256)),
        npy("(64,", bytes(256)),
        npy("(64,)\n\n'''", bytes(256)),
        b"no array",
        b"",
    ],
)
def test_arrays_that_lie(entry: bytes) -> None:
    for key in ("threshold", "b_enc", "W_enc"):
        with copied("gemma_scope__jumprelu") as path:
            (file,) = files(path, ".npz")
            entries = unzipped(file)
            for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
                zipped(file, entries | {f"{key}.npy": entry}, compression)
                attempt(path)
            zipped(file, {k: v for k, v in entries.items() if k != f"{key}.npy"} | {key: entry})
            attempt(path)


@pytest.mark.parametrize("evil", evils())
def test_arrays_of_objects_run_no_code(evil: Evil) -> None:
    with copied("gemma_scope__jumprelu") as path:
        (file,) = files(path, ".npz")
        stream = io.BytesIO()
        np.save(stream, np.array([evil], dtype=object), allow_pickle=True)
        zipped(file, unzipped(file) | {"b_enc.npy": stream.getvalue()})
        assert attempt(path) is None


def put_fifo(file: Path) -> None:
    os.mkfifo(file)


def put_folder(file: Path) -> None:
    file.mkdir()


def put_loop(file: Path) -> None:
    file.symlink_to(file)


def put_device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def put_link_out(file: Path) -> None:
    """To a file that is no fault otherwise; a link that is named itself is followed."""
    file.symlink_to(next(case(name)[1] for name in GOOD if name.startswith("goodfire")))


@pytest.mark.parametrize("name", ["saelens_v6__standard", "llamascope__jumprelu", "gemma_scope__jumprelu", *PICKLED])
@pytest.mark.parametrize("put", [put_fifo, put_folder, put_loop, put_device, put_link_out])
def test_other_things_in_place_of_files(name: str, put: Callable[[Path], None]) -> None:
    for number in range(len(files(case(name)[1], *WEIGHTS, ".json"))):
        with copied(name) as path:
            file = files(path, *WEIGHTS, ".json")[number]
            file.unlink()
            put(file)
            for given_path in {path, path.parent if path == file else path}:
                assert attempt(given_path) is None or file.name in OPTIONAL or given_path.is_symlink()


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31mb", "a\u2028b", os.fsdecode(b"a\xffb")])
@pytest.mark.parametrize("fixture", ["saelens_v6__standard", "goodfire__standard"])
def test_names_that_cannot_be_shown(name: str, fixture: str) -> None:
    with copied(fixture) as path:
        other = path.with_name(name + path.suffix)
        path.rename(other)
        for given_path in (other, other.parent):
            with pytest.raises(SAELoadError) as refusal:
                load_sae(given_path)
            assert str(refusal.value).isprintable()
