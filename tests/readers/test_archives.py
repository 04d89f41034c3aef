"""Archives that somebody else wrote: what could do more than compute is refused before PyTorch sees it."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor

from pixelsnail_infer.errors import GraphFileError, ManifestError, PixelsnailError
from pixelsnail_infer.export.writing.torch_archive import with_manifest
from pixelsnail_infer.manifest import METADATA_KEY, Manifest
from pixelsnail_infer.parts import ArchiveSpec
from pixelsnail_infer.runtime import load, load_decoder
from pixelsnail_infer.runtime.backends import torch_cpu
from pixelsnail_infer.runtime.files import archive, archive_code
from pixelsnail_infer.runtime.files.archive import MANIFEST_ENTRY, is_archive, read_archive

FOLDER = "archive/"


@pytest.fixture(scope="module")
def whole(digits_archive: Path) -> bytes:
    return digits_archive.read_bytes()


def entries(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        return {info.filename.partition("/")[2]: opened.read(info) for info in opened.infolist()}


def zipped(held: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as opened:
        for name, data in held.items():
            opened.writestr(FOLDER + name, data)
    return buffer.getvalue()


def refused(data: bytes, *words: str, error: type[PixelsnailError] = GraphFileError) -> None:
    with pytest.raises(error) as caught:
        load(data)
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


def test_it_is_taken_as_it_is_and_repacked(whole: bytes) -> None:
    for data in (whole, zipped(entries(whole))):
        with load(data, threads=1) as sampler:
            assert sampler.sample(1, label=3).shape == (1, 8, 8)


class FromFile(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_file("/etc/passwd", False, 8, dtype=torch.uint8)


class Saves(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "stolen.bin")  # aten::save in TorchScript
        return x


class Prints(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        print(x)
        return x


class Asserts(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.size(0) > 1, "a message"
        return x


class Restores(torch.nn.Module):
    @torch.jit.export
    def __getstate__(self) -> int:
        return 3

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        self.training = False

    def forward(self, x: Tensor) -> Tensor:
        return x


class Method(torch.nn.Module):
    @torch.jit.export
    def other(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.other(x)


def scripted(module: torch.nn.Module, manifest: str) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer)
    return with_manifest(buffer.getvalue(), manifest)


@pytest.mark.parametrize(("made", "word"), [
    (FromFile, "string '/etc/passwd'"), (Saves, "syntax Expr"), (Prints, "syntax Expr"), (Asserts, "syntax Expr"),
    (Restores, "run at loading"), (Method, "calls 'self.other'")], ids=lambda given: getattr(given, "__name__", None))
def test_programs_that_do_something_else(made: type[torch.nn.Module], word: str, whole: bytes,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is run: PyTorch does not even get it."""
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    manifest = entries(whole)[MANIFEST_ENTRY].decode()
    root = torch.nn.Module()
    root.add_module("step", made())
    refused(scripted(root, manifest), word)


PROGRAM = """class step(Module):
  __parameters__ = []
  __buffers__ = ["c0", ]
  c0 : Tensor
  def forward(self: __torch__.a.step,
    x: Tensor) -> Tensor:
    _0 = __torch__.a.twice
    y = torch.add(x, self.c0)
    return _0(y, )
def twice(x: Tensor) -> Tensor:
  return torch.mul(x, 2)
"""
CHANGED = {
    "operator": ("torch.add(x", "torch.from_file(x", "calls 'torch.from_file'"),
    "custom operator": ("torch.add(x", "ops.mine.add(x", "calls 'ops.mine.add'"),
    "method": ("torch.add(x, self.c0)", "x.add(self.c0)", "calls 'x.add'"),
    "builtin": ("torch.add(x, self.c0)", "print(x)", "calls 'print'"),
    "operator as a value": ("torch.add(x, self.c0)", "torch.save", "uses 'torch.save'"),
    "module as a value": ("torch.add(x, self.c0)", "torch", "uses 'torch'"),
    "word as a value": ("torch.add(x, self.c0)", "print", "uses 'print'"),
    "name with two meanings": ("y = torch", "_0 = torch", "two meanings"),
    "function that is a value": ("_0 = __torch__.a.twice", "_0 = self.c0", "calls '_0'"),
    "class from outside": ("_0 = __torch__.a.twice", "_0 = __torch__.torch.classes.a.B", "uses '__torch__.torch"),
    "custom type": ("c0 : Tensor", "c0 : __torch__.torch.classes.a.B", "has the type"),
    "default": ("x: Tensor) -> Tensor:\n    _0", "x: Tensor=torch.add(1, 2)) -> Tensor:\n    _0", "defaults"),
    "default of a function": ("def twice(x: Tensor)", "def twice(x: Tensor=3)", "defaults"),
    "setstate": ("def forward", "def __setstate__", "run at loading"),
    "other method": ("def forward", "def __init__", "defines '__init__'"),
    "decorator": ("class step", "@unused\nclass step", "of another kind"),
    "base": ("(Module)", "(NamedTuple)", "of another kind"),
    "value of a member": ("c0 : Tensor", "c0 : Tensor = torch.add(1, 2)", "of another kind"),
    "members": ('["c0", ]', "torch.save(1)", "of another kind"),
    "with": ("    y = torch", "    with x:\n      pass\n    y = torch", "syntax With"),
    "while": ("    y = torch", "    while x:\n      pass\n    y = torch", "syntax While"),
    "raise": ("    y = torch", "    raise x\n    y = torch", "syntax Raise"),
    "import": ("class step", "import os\nclass step", "syntax Import"),
    "statement at the top": ("class step", "x = 1\nclass step", "of another kind"),
    "function inside": ("    y = torch", "    def f(x: Tensor) -> Tensor:\n      return x\n    y = torch", "inside"),
    "class inside": ("    y = torch", "    class B(Module):\n      pass\n    y = torch", "inside"),
    "assigned attribute": ("    y = torch", "    self.c0 = x\n    y = torch", "uses 'self.c0'"),
    "string": ("torch.mul(x, 2)", 'torch.mul(x, "/etc/passwd")', "has the string"),
    "comment": ("    y = torch", "    # type: (Tensor) -> Tensor\n    y = torch", "comments"),
    "escape": ("torch.mul(x, 2)", 'torch.mul(x, "\\x41")', "escapes"),
    "no ASCII": ("y", "\u00fd", "comments, escapes"),
    "form feed": ("    y = torch", "    y =\ftorch", "comments, escapes"),
    "not a program": ("class step(Module):", "class step(Module:", "cannot be read"),
    "deep": ("torch.mul(x, 2)", "(" * 5000 + "x" + ")" * 5000, "cannot be read"),
}


def test_a_program_like_the_exporters_passes() -> None:
    archive_code.check_code({"a": PROGRAM})


@pytest.mark.parametrize(("old", "new", "says"), CHANGED.values(), ids=CHANGED)
def test_a_program_that_differs_is_refused(old: str, new: str, says: str) -> None:
    assert old in PROGRAM
    with pytest.raises(ValueError, match=".") as caught:
        archive_code.check_code({"a": PROGRAM.replace(old, new)})
    assert says in str(caught.value)


def test_pytorchs_own_reading_is_looked_at_too(whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the two parsers to differ: a program that the first one lets through."""
    monkeypatch.setattr(torch_cpu, "KINDS", archive_code.KINDS - {"aten::softmax"})
    refused(whole, "'aten::softmax'", "step graph")


@pytest.mark.parametrize("name", ["extra/other", "data/../x", "code/__torch__/a.pyc", "code/other.py", "README", "a/b",
                                  "code/__torch__/../x.py", "constants/0", "code/__torch__/a.py.debug_pkl"])
def test_foreign_entries(whole: bytes, name: str) -> None:
    refused(zipped({**entries(whole), name: b""}), "which no export has")


def test_constants_outside_of_modules(whole: bytes) -> None:
    refused(zipped({**entries(whole), "constants.pkl": b"\x80\x02(."}), "constants outside")


def test_compressed_entries(whole: bytes) -> None:
    held = entries(whole)
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as opened:
        for name, data in held.items():
            opened.writestr(FOLDER + name, data, zipfile.ZIP_DEFLATED if name == "data/5" else zipfile.ZIP_STORED)
    refused(buffer.getvalue(), "compressed or encrypted")
    refused(zipped(held, zipfile.ZIP_DEFLATED), "more than it can")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_twice(whole: bytes) -> None:
    buffer = io.BytesIO(whole)
    with zipfile.ZipFile(buffer, "a") as opened:
        opened.writestr(FOLDER + "data.pkl", b"")
    refused(buffer.getvalue(), "there twice")
    with zipfile.ZipFile(buffer := io.BytesIO(whole), "a") as opened:
        opened.writestr("elsewhere/data.pkl", b"")
    refused(buffer.getvalue(), "there twice")


def test_a_comment_behind_the_archive(whole: bytes) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(whole), "a") as opened:
        opened.comment = b"x" * 100
    refused(buffer.getvalue(), "more than it can")


def flipped(whole: bytes, name: str) -> bytes:
    """With one bit of an entry changed, its checksum too."""
    held = entries(whole)
    held[name] = bytes([held[name][0] ^ 1]) + held[name][1:]
    return zipped(held)


@pytest.mark.parametrize("name", ["data/5", "byteorder"])
def test_an_altered_entry_is_not_what_the_manifest_describes(whole: bytes, name: str) -> None:
    refused(flipped(whole, name), "not the archive that its manifest describes")


def test_damage(whole: bytes) -> None:
    start = whole.index(entries(whole)["data/5"])
    refused(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1:], "not a whole archive")
    refused(whole[:-1], "not a whole archive")
    refused(whole[:len(whole) // 2], "not a whole archive")


def test_manifests(whole: bytes) -> None:
    held = entries(whole)
    text = held[MANIFEST_ENTRY].decode()
    refused(zipped({**held, MANIFEST_ENTRY: b"\xff"}), "no text")
    refused(zipped({**held, MANIFEST_ENTRY: b"{}"}), "format version", error=ManifestError)
    refused(zipped({**held, MANIFEST_ENTRY: text.replace('"archive"', '"archives"').encode()}), "unknown key",
            error=ManifestError)
    levels = text.replace('"levels": 17', '"levels": 18').replace('"width": 17', '"width": 18')
    refused(zipped({**held, MANIFEST_ENTRY: levels.encode()}), "expected", "export the checkpoint again")


def test_what_is_no_export_says_so(tmp_path: Path, whole: bytes) -> None:
    checkpoint = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(2)}, checkpoint)
    with pytest.raises(GraphFileError, match="weights.pt has no manifest, so pixelsnail-infer did not write it"):
        load(checkpoint)
    with pytest.raises(GraphFileError, match="holds all parts; leave them out"):
        load(whole, siblings={})
    with pytest.raises(ManifestError, match="the archive is a prior, not a decoder; use load for it"):
        load_decoder(whole)
    assert not is_archive(tmp_path / "none") and not is_archive(tmp_path) and not is_archive(b"")
    with pytest.raises(GraphFileError, match="cannot be read"):
        read_archive(tmp_path / "none.pt")


def test_graph_files_are_no_archive_whatever_they_say(digits_graphs: dict[str, Path]) -> None:
    model = onnx.load(digits_graphs["step"])
    manifest = Manifest.from_json(next(prop.value for prop in model.metadata_props))
    spec = ArchiveSpec("torchscript", manifest.parts, "0" * 64, 1)
    onnx.helper.set_model_props(model, {METADATA_KEY: replace(manifest, files={}, archive=spec).to_json()})
    with pytest.raises(GraphFileError, match="is not the file that its manifest describes; it was altered or damaged"):
        load(model.SerializeToString(), siblings={})


@pytest.mark.parametrize("limit", ["manifest", "program"])
def test_sizes_are_looked_at_before_anything_is_read(limit: str, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(archive._MOST_TEXT, limit, 100)
    if limit == "manifest":
        monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *_: pytest.fail("it was read"))
    refused(whole, f"a {limit} has")


def test_a_file_that_changes_while_it_is_loaded(whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, right = tmp_path / "a.pt", torch.jit.load
    path.write_bytes(whole)

    def slow(*given: Any, **named: Any) -> Any:
        loaded = right(*given, **named)
        os.utime(path, ns=(1, 1))
        return loaded

    monkeypatch.setattr(torch.jit, "load", slow)
    with pytest.raises(GraphFileError, match="changed while it was loaded"):
        load(path)


@pytest.mark.parametrize("change", [
    {"inputs": ["row"]}, {"dtypes": {"row": "int64"}}, {"shapes": {"row": [-1]}}, {"outputs": ["more"]},
], ids=lambda change: next(iter(change)))
def test_modules_that_do_not_tell_their_tensors(change: dict[str, Any], digits_archive: Path) -> None:
    loaded = torch.jit.load(digits_archive)
    for name, value in change.items():
        setattr(loaded.step, name, value)
    file = torch_cpu.GraphFile("a.pt", "step graph", digits_archive, {}, {}, 0, None, (), "step")
    with pytest.raises(GraphFileError, match="does not tell the tensors of the step graph"):
        torch_cpu._signature(loaded.step, file)


def test_the_manifest_that_is_written_is_read_again(digits_archive: Path) -> None:
    found = read_archive(digits_archive)
    manifest = Manifest.from_json(found.manifest)
    assert manifest.archive is not None and not manifest.files
    assert (manifest.archive.sha256, manifest.archive.bytes) == (found.sha256, found.held)
    assert manifest.parts == ("row", "prologue", "score", "filtered")
    assert set(manifest.versions) == {"pixelsnail_infer", "torch"}
