"""Hostile input for every reader. `CASES[kind](random, folder)` makes one, reads it, and says what came of it: "read",
after checks that it was read right, or the name of the project's error. Any other exception is a bug."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from pixelsnail_infer.checkpoints.tf_bundle import read_bundle
from pixelsnail_infer.checkpoints.tf_slices import read_slices
from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.document import kind_of
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.manifest import METADATA_KEY, ConditionSpec, Manifest
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.commands.labels import parse_condition, parse_labels, read_conditions
from pixelsnail_infer.runtime.files.arrays import load_array, npz
from pixelsnail_infer.runtime.files.graphfile import read_graph
from pixelsnail_infer.runtime.requests.conditions import resolve_conditions

from ..checkpoints.bundles import entry, field, header, write_bundle, write_slices
from ..codec import synthetic as codec
from ..runtime import synthetic
from .mutations import NUMBERS, document, message, spoiled

Case = Callable[[Random, Path], str]
SPECS = (
    ConditionSpec("label", "class", (), "int64", 10), ConditionSpec("v", "vector", (3,), "float32"),
    ConditionSpec("top", "codes", (2, 2), "int64", 7),
)  # fmt: skip


def judged(case: Callable[[Random, Path], object]) -> Case:
    """The case, whose `PixelsnailError` must be one printable line of moderate length."""

    @functools.wraps(case)
    def run(random: Random, folder: Path) -> str:
        try:
            case(random, folder)
        except PixelsnailError as error:
            text = str(error)
            assert text.isprintable() and len(text) < 6000, f"the message is {text[:3000]!r}"
            return type(error).__name__
        return "read"

    return run


@functools.cache
def parts() -> dict[str, bytes]:
    return synthetic.build()


@functools.cache
def manifests() -> tuple[str, str]:
    return read_graph(parts()["step"]).metadata[METADATA_KEY], codec.manifest("decoder").to_json()


@judged
def manifest(random: Random, folder: Path) -> None:
    which = random.randrange(2)
    text = document(manifests()[which], random)
    if not random.randrange(4):
        text = spoiled(text.encode("utf-8", "surrogatepass"), random).decode("utf-8", "replace")
    kind_of(text)
    made: Any = (Manifest, CodecManifest)[which].from_json(text)
    assert type(made).from_json(made.to_json()) == made
    for spec in getattr(made, "states", ()):
        assert 0 < spec.bytes_per_slot < 1 << 40 and np.isfinite(np.array(spec.initial, spec.dtype))


@judged
def graph(random: Random, folder: Path) -> None:
    whole = parts()[random.choice(list(parts()))]
    data = spoiled(whole, random) if random.randrange(2) else message(whole, random)
    path = folder / "a.onnx"
    path.write_bytes(data)
    file = read_graph(path, digest=True)
    assert file.size == len(data) and all(rows >= 0 for rows in file.tables.values())


@judged
def array(random: Random, folder: Path) -> None:
    path = folder / "a.npy"
    values = np.arange(24).astype(random.choice(("<f4", ">f8", "<i8", ">i2", "u1", "?"))).reshape(2, 3, 4)
    path.write_bytes(_npy(np.asfortranarray(values) if random.randrange(2) else values, random))
    held = load_array(path, "codes")
    assert held.dtype.kind in "biufc"
    data = path.read_bytes()
    path.write_bytes(data[:6] + bytes((min(data[6], 2),)) + data[7:])  # NumPy's version 3 knows no Python 2 literals
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert np.array_equal(held, np.load(path, allow_pickle=False), equal_nan=held.dtype.kind in "fc")


def _npy(values: np.ndarray, random: Random) -> bytes:
    if not random.randrange(10):
        return spoiled(npz({"a": values}), random)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values, version=random.choice(((1, 0), (2, 0))), allow_pickle=False)
    if random.randrange(2):
        return spoiled(buffer.getvalue(), random) if random.randrange(4) else buffer.getvalue()
    shape = [random.choice((2, 3, 4, 0, True, 1.5, "x", (), *NUMBERS)) for _ in range(random.randrange(5))]
    descr = random.choice(("<f4", ">i8", "|O", "<M8[s]", "|V8", "S5", "(2,)f4", [("a", "<f4")], 7, None, "f4" * 50))
    text = repr({"descr": descr, "fortran_order": random.choice((True, False, 3)), "shape": tuple(shape)})
    text = random.choice((text, text, text, text[:-1], "(" * 9000, "{" * 90, "[" * 300 + "]" * 300, "'", "\\", "0_0",
                          "{'descr': '<f4', 'shape': (1L,), 'fortran_order': False}", "9" * 5000,
                          "-" * 5000 + "1"))  # fmt: skip
    version = random.choice(((1, 0), (2, 0), (3, 0), (4, 0)))
    size = random.choice((len(text), len(text), len(text), 0, 65535, (1 << 32) - 1))
    size = size % (1 << 16) if version == (1, 0) else size
    head = b"\x93NUMPY" + bytes(version) + size.to_bytes(2 if version == (1, 0) else 4, "little")
    return head + text.encode("latin1") + bytes(random.randrange(200))


@judged
def labels(random: Random, folder: Path) -> None:
    words = ("0", "9", "3-7", "7-3", "0-99999", "999999999", "1e400", "nan", "-1", "², ٣", " ", ",", "=", "0.5", "x",
             "é", "label=", "top=", "v=", "v=1,2,3", f"v={folder}/no.npy", f"top={folder}", "9" * 500,
             "0-99999," * 100)  # fmt: skip
    text = "".join(random.choice(words) + random.choice(("", ",", "")) for _ in range(random.randint(1, 6)))
    text = text if random.randrange(8) else random.choice(("0,1", "label=2", "label=0-2"))
    try:
        given = parse_labels(text)
        assert given and len(given) <= 100_000
    except ValueError as error:
        assert len(str(error)) < 400
        given = None
    try:
        pairs = [parse_condition(text)]
    except ValueError:
        pairs = []
    specs = [spec for spec in SPECS if spec.name in (pairs[0][0] if pairs else "", "label" if given else "")]
    values = read_conditions(specs, given, pairs, 3)
    resolve_conditions(Manifest.from_json(manifests()[0]), values, 3)


@judged
def bundle(random: Random, folder: Path) -> None:
    prefix = folder / "a.ckpt"
    tensors = {name: (1, np.arange(size, dtype="<f4")) for name, size in (("a", 2), ("b/c", 5), ("b/d", 0))}
    keys = [key for key in ("dtype", "shard", "offset", "size") if not random.randrange(6)]
    change: dict[str, Any] = {key: random.choice(NUMBERS) % (1 << 64) for key in keys}
    if not random.randrange(4):
        change["shape"] = tuple(random.choice((2, 5, *NUMBERS)) % (1 << 64) for _ in range(random.randrange(5)))
    if not random.randrange(6):
        change["extra"] = bytes(random.randrange(256) for _ in range(random.randrange(9)))
    table = None
    if not random.randrange(4):
        table = {b"": header(random.choice((0, 1, 2, 1 << 40))), b"a": spoiled(entry(), random), b"\xff": entry(size=8)}
    write_bundle(prefix, tensors, change=change, table=table)
    for name in ("a.ckpt.index", "a.ckpt.data-00000-of-00001"):
        if not random.randrange(3):
            (folder / name).write_bytes(spoiled((folder / name).read_bytes(), random))
    held = read_bundle(prefix)
    for name in held:
        assert held[name].shape == held.shape(name)
    held.sha256()


@judged
def slices(random: Random, folder: Path) -> None:
    tensors = {name: (1, np.arange(size, dtype="<f4")) for name, size in (("a", 2), ("b/c", 5), ("b/d", 0))}
    change: dict[str, Any] = {}
    if not random.randrange(4):
        change["dtype"] = random.choice(NUMBERS) % (1 << 64)
    if not random.randrange(4):
        change["shape"] = tuple(random.choice((2, 5, *NUMBERS)) % (1 << 64) for _ in range(random.randrange(5)))
    if not random.randrange(4):
        change["slices"] = [spoiled(field(1, b""), random) for _ in range(random.randrange(3))]
    if not random.randrange(4):
        change["data"] = spoiled(field(5, bytes(8)), random)
    write_slices(folder / "a.ckpt", tensors, change={"a": change})
    if not random.randrange(3):
        (folder / "a.ckpt").write_bytes(spoiled((folder / "a.ckpt").read_bytes(), random))
    held = read_slices(folder / "a.ckpt")
    for name in held:
        assert held[name].shape == held.shape(name)
    held.sha256()


@judged
def engine(random: Random, folder: Path) -> None:
    """A whole export of which one graph was changed, loaded and used."""
    made = dict(parts())
    part = random.choice([name for name in made if name != "step"])
    made[part] = message(made[part], random)
    held = manifests()[0]
    files = {name: synthetic.file_spec(data) for name, data in made.items() if name != "step"}
    text = synthetic.make_manifest(files).to_json()
    made["step"] = synthetic.step_graph({METADATA_KEY: text}).SerializeToString() if text != held else made["step"]
    with load(made.pop("step"), siblings=made, threads=1) as sampler:
        codes = sampler.sample(2, label=[0, 2], top_k=random.choice((None, 2)))
        sampler.score(codes, label=1)


CASES: dict[str, Case] = {
    "manifest": manifest, "graph": graph, "array": array, "labels": labels, "bundle": bundle, "slices": slices,
    "engine": engine,
}  # fmt: skip
