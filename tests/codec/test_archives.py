"""Decoders and encoders as TorchScript archives: PyTorch's images and codes, the ONNX files' too, nothing hostile."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.errors import BackendError, GraphFileError, ManifestError, ModelError, VerificationError
from pixelsnail_infer.export import Exported, export_codec
from pixelsnail_infer.export.codecs import program
from pixelsnail_infer.export.codecs.files import ArchivedHalf
from pixelsnail_infer.export.writing.torch_archive import with_manifest
from pixelsnail_infer.parts import ArchiveSpec
from pixelsnail_infer.runtime import Decoder, Encoder, load, load_decoder, load_encoder
from pixelsnail_infer.runtime.backends.torch_cpu import TorchBackend, nodes
from pixelsnail_infer.runtime.backends.torch_cuda import TorchCudaBackend
from pixelsnail_infer.runtime.codecs.codec import read_codec
from pixelsnail_infer.runtime.files.archive import MANIFEST_ENTRY, read_archive
from pixelsnail_infer.runtime.files.archive_code import CODEC_OPERATORS, KINDS

from .networks import CONFIGS, TWO, build
from .test_export import KINDS as HALVES

Exports = dict[str, dict[str, Exported[CodecManifest]]]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Both halves of every small network, by its name and the kind."""
    folder = tmp_path_factory.mktemp("archives")
    return {name: {kind: export_codec(build(config), folder / f"{name}.{kind}.pt", kind=kind, format="torchscript")
                   for kind in HALVES} for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """ONNX files of two of them."""
    folder = tmp_path_factory.mktemp("graphs")
    return {name: {kind: export_codec(build(CONFIGS[name]), folder / f"{name}.{kind}.onnx", kind=kind).file
                   for kind in HALVES} for name in ("two", "stage")}


def codes_of(name: str, n: int) -> list[np.ndarray]:
    random = np.random.default_rng(n)
    return [random.integers(0, spec.levels, (n, *spec.shape)) for spec in CONFIGS[name].codes]


def images_of(name: str, n: int) -> np.ndarray:
    spec, random = CONFIGS[name].image, np.random.default_rng(n)
    cells = random.uniform(-1, 1, (n, spec.shape[0] // 8, spec.shape[1] // 8, spec.channels)).astype(np.float32)
    images = cells.repeat(8, 1).repeat(8, 2)
    return 6 * images - 5 if spec.values == "log-mel" else images


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("batch", [1, 3])
def test_images_and_codes_are_pytorchs(name: str, batch: int, archives: Exports) -> None:
    model, codes, images = build(CONFIGS[name]), codes_of(name, 5), images_of(name, 5)
    with torch.no_grad():
        expected = model.decode(*map(torch.from_numpy, codes)).permute(0, 2, 3, 1).numpy()
        chosen = model.encode(torch.from_numpy(images).permute(0, 3, 1, 2))[0]
    with load_decoder(archives[name]["decoder"].file, backend="torch", threads=1) as decoder:
        found = decoder.decode(*codes, max_batch=batch)
    with load_encoder(archives[name]["encoder"].file, backend="torch", threads=1) as encoder:
        levels = encoder.encode(images, max_batch=batch)
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 1e-4 * expected.std()
    for level, right in zip(levels, chosen, strict=True):
        assert np.array_equal(level, right.numpy()) and len(np.unique(level)) > 2


@pytest.mark.parametrize("name", ["two", "stage"])
@pytest.mark.parametrize("batch", [1, 3])
def test_they_are_those_of_the_onnx_files(name: str, batch: int, archives: Exports,
                                          graphs: dict[str, dict[str, Path]]) -> None:
    codes, images = codes_of(name, 4), images_of(name, 4)
    decoded, encoded = [], []
    for files in (graphs[name], {kind: held.file for kind, held in archives[name].items()}):
        with load_decoder(files["decoder"], threads=1) as decoder, load_encoder(files["encoder"], threads=1) as encoder:
            decoded.append(decoder.decode(*codes, max_batch=batch))
            encoded.append(encoder.encode(images, max_batch=batch))
    assert np.abs(decoded[0] - decoded[1]).max() <= 1e-4 * decoded[0].std()
    assert all(np.array_equal(one, other) for one, other in zip(*encoded, strict=True))


def test_the_operators_are_those_that_are_listed_and_none_is_listed_in_vain(archives: Exports) -> None:
    used = set()
    for halves in archives.values():
        for kind, held in halves.items():
            used |= {node.kind() for node in nodes(getattr(torch.jit.load(held.file), kind).inlined_graph)}
    assert used <= KINDS
    assert {f"aten::{name}" for name in CODEC_OPERATORS} <= used


@pytest.mark.parametrize("kind", HALVES)
def test_the_manifest_says_what_the_archive_is(kind: str, archives: Exports,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    exported = archives["two"][kind]
    held = read_archive(exported.file)
    manifest = CodecManifest.from_json(held.manifest)
    assert manifest == exported.manifest == read_codec(exported.file)[1] and manifest.kind == kind
    assert manifest.archive == ArchiveSpec("torchscript", (), held.sha256, held.held)
    assert set(manifest.versions) == {"pixelsnail_infer", "torch"} and manifest.parameters > 0
    assert set(manifest.verification) == {check.name for check in exported.checks}
    with pytest.raises(ManifestError, match=f"archive names parts, of which a {kind} has none"):
        replace(manifest, archive=ArchiveSpec("torchscript", ("row",), held.sha256, held.held))


def test_an_archive_tells_its_tensors_without_this_package(archives: Exports) -> None:
    extra = {"pixelsnail_infer.manifest": ""}
    decoder = torch.jit.load(archives["two"]["decoder"].file, _extra_files=extra).decoder
    assert CodecManifest.from_json(extra["pixelsnail_infer.manifest"].decode()).kind == "decoder"
    assert (decoder.inputs, decoder.outputs) == (["top", "bottom"], ["image"])
    assert decoder.dtypes == {"top": "int64", "bottom": "int64", "image": "float32"}
    assert decoder.shapes["image"] == [-1, *TWO.shape, 3]
    with torch.inference_mode():
        (image,) = decoder(*map(torch.from_numpy, codes_of("two", 2)))
    assert image.shape == (2, *TWO.shape, 3) and image.is_contiguous()


class Steps:
    """In the place of a stream."""

    place = torch.device("cpu")

    @contextmanager
    def here(self) -> Iterator[None]:
        yield

    def wait(self) -> None:
        """Nothing is under way."""

    def captured(self, work: Any) -> Any:
        return work


def test_captured_halves_give_the_same(archives: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, images = codes_of("two", 5), images_of("two", 5)
    files = {kind: held.file for kind, held in archives["two"].items()}
    with load_decoder(files["decoder"], threads=1) as decoder, load_encoder(files["encoder"], threads=1) as encoder:
        expected = decoder.decode(*codes, max_batch=2), *encoder.encode(images, max_batch=2)
    opened = TorchCudaBackend("cuda", 1, Steps())
    monkeypatch.setattr("pixelsnail_infer.runtime.codecs.codec.open_backend", lambda *_: opened)
    with load_decoder(files["decoder"]) as decoder, load_encoder(files["encoder"]) as encoder:
        found = decoder.decode(*codes, max_batch=2), *encoder.encode(images, max_batch=2)
    assert all(np.array_equal(one, other) for one, other in zip(expected, found, strict=True))


# What is refused ---------------------------------------------------------------------------------------------------


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {info.filename.partition("/")[2]: opened.read(info) for info in opened.infolist()}


def zipped(held: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as opened:
        for name, data in held.items():
            opened.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def test_kinds_and_engines_that_do_not_fit(archives: Exports, graphs: dict[str, dict[str, Path]]) -> None:
    decoder, encoder = (archives["two"][kind].file for kind in HALVES)
    with pytest.raises(ManifestError, match="is an encoder, not a decoder; use load_encoder"):
        load_decoder(encoder)
    with pytest.raises(ManifestError, match="is a decoder, not a prior or a denoiser; use load_decoder"):
        load(decoder)
    with pytest.raises(BackendError, match="'onnxruntime', which runs ONNX files, but .*decoder.pt is a Torch"):
        load_decoder(decoder, backend="onnxruntime")
    with pytest.raises(BackendError, match="'torch', which runs TorchScript archives, but .*onnx is an ONNX file"):
        load_encoder(graphs["two"]["encoder"], backend="torch")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="device is 'cuda:9', but PyTorch .* sees 0 GPUs"):
            load_decoder(decoder, device="cuda:9")


def test_altered_archives(archives: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    held, other = (entries(archives["two"][kind].file) for kind in HALVES)
    assert isinstance(load_decoder(zipped(held)), Decoder) and isinstance(load_encoder(zipped(other)), Encoder)
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    says = "not the archive that its manifest describes"
    with pytest.raises(GraphFileError, match=says):
        load_decoder(zipped({**held, "data/0": bytes(len(held["data/0"]))}))
    with pytest.raises(GraphFileError, match=says):
        load_decoder(zipped({**other, MANIFEST_ENTRY: held[MANIFEST_ENTRY]}))
    manifest = CodecManifest.from_json(held[MANIFEST_ENTRY].decode())
    without = replace(manifest, archive=None).to_json().encode()
    with pytest.raises(GraphFileError, match=says):
        load_decoder(zipped({**held, MANIFEST_ENTRY: without}))


class Saves(torch.nn.Module):
    def forward(self, top: Tensor, bottom: Tensor) -> Tensor:
        torch.save(top, "stolen.bin")
        return top


class Reads(torch.nn.Module):
    def forward(self, top: Tensor, bottom: Tensor) -> Tensor:
        return torch.from_file("/etc/passwd", False, 8, dtype=torch.uint8)


@pytest.mark.parametrize("made", [Saves, Reads])
def test_a_program_that_does_something_else(made: type[torch.nn.Module], archives: Exports,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    root, buffer = torch.nn.Module(), io.BytesIO()
    root.add_module("decoder", made())
    torch.jit.save(torch.jit.script(root), buffer)
    data = with_manifest(buffer.getvalue(), archives["two"]["decoder"].manifest.to_json())
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(GraphFileError, match="holds a program that"):
        load_decoder(data)


def described(archive: bytes, manifest: CodecManifest) -> bytes:
    """The archive with a manifest whose digest is right."""
    found = read_archive(with_manifest(archive, ""))
    spec = ArchiveSpec("torchscript", (), found.sha256, found.held)
    return with_manifest(archive, replace(manifest, archive=spec).to_json())


def test_an_archive_without_the_part_and_one_with_other_tensors(archives: Exports) -> None:
    manifest, file = archives["two"]["decoder"].manifest, archives["two"]["encoder"].file
    with pytest.raises(GraphFileError, match="has no decoder; export the checkpoint again"):
        load_decoder(described(file.read_bytes(), manifest))
    fewer = replace(manifest, codes=manifest.codes[:1])
    with pytest.raises(GraphFileError, match="input 'bottom' is not in the manifest"):
        load_decoder(described(archives["two"]["decoder"].file.read_bytes(), fewer))


def test_a_graph_file_is_no_archive_whatever_it_says(graphs: dict[str, dict[str, Path]]) -> None:
    file, manifest = read_codec(graphs["two"]["decoder"])
    said = replace(manifest, archive=ArchiveSpec("torchscript", (), "0" * 64, 1))
    model = onnx.load(file.name)
    onnx.helper.set_model_props(model, {"pixelsnail_infer.manifest": said.to_json()})
    with pytest.raises(GraphFileError, match="is not the file that its manifest describes; it was altered"):
        load_decoder(model.SerializeToString())


def test_a_wrong_archive_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proofs run on the archive."""
    right = program.program_of

    def wrong(module: torch.nn.Module, kind: str) -> torch.fx.GraphModule:
        made = right(module, kind)
        next(held for held in made.buffers() if held.dim() == 4)[..., 0].mul_(1.05)
        return made

    monkeypatch.setattr("pixelsnail_infer.export.codecs.files.program_of", wrong)
    for kind in HALVES:
        with pytest.raises(VerificationError, match="verification failed"):
            export_codec(build(TWO), tmp_path / f"{kind}.pt", kind=kind, format="torchscript")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("decode", "says"), [
    (lambda *codes: torch.fft.fft(codes[0].float()).real, "uses aten.fft_fft.default, which is none of the op"),
    (lambda *codes: codes[0] + torch.arange(3, device="cpu").sum(), "makes tensors on the CPU whatever its input"),
    (lambda *codes: codes[0] if codes[0].sum() > 0 else codes[1], "PyTorch cannot export this decoder"),
])
def test_what_an_archive_cannot_hold_is_named(decode: Any, says: str) -> None:
    model = build(TWO)
    model.decode = lambda *codes: decode(*codes).float()[..., None].permute(0, 3, 1, 2)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=says):
        ArchivedHalf(model, "decoder")


def test_what_pytorch_writes_in_other_words_is_taken(tmp_path: Path) -> None:
    """Casts, sizes and views, as modules of somebody's own have them."""
    model, right = build(TWO), build(TWO)

    def decode(*codes: Tensor) -> Tensor:
        image = right.decode(*codes).double()
        batch, channels, height, width = image.shape
        return image.reshape(batch * channels, height * width).reshape(batch, channels, height, width).float()

    model.decode = decode  # type: ignore[method-assign]
    exported = export_codec(model, tmp_path / "d.pt", format="torchscript")
    with load_decoder(exported.file) as decoder:
        assert decoder.decode(*codes_of("two", 3)).shape == (3, *TWO.shape, 3)
    (image,) = torch.jit.load(exported.file).decoder(*map(torch.from_numpy, codes_of("two", 3)))
    assert image.is_contiguous() and not decode(*map(torch.from_numpy, codes_of("two", 3))).permute(
        0, 2, 3, 1).is_contiguous()


def test_names_and_formats_agree(tmp_path: Path) -> None:
    for name, format in (("d.onnx", "torchscript"), ("d.pt", "onnx")):
        with pytest.raises(Exception, match=f"in the format {format} its name must end in"):
            export_codec(build(TWO), tmp_path / name, format=format)
    with pytest.raises(GraphFileError, match="is no TorchScript archive"):
        TorchBackend().load(read_codec(export_codec(build(TWO), tmp_path / "d.onnx").file)[0])
