"""Denoisers as TorchScript archives, which PyTorch alone runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import BackendError, GraphFileError
from pixelsnail_infer.export.denoisers.exporting import export_denoiser
from pixelsnail_infer.export.from_checkpoint import export_checkpoint, verify_export
from pixelsnail_infer.runtime import Denoiser, load
from pixelsnail_infer.runtime.files.archive_code import DENOISER_OPERATORS, KINDS

from .networks import network

pytestmark = pytest.mark.full
SMALL = np.random.default_rng(3).uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def archive(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "unet.pt"
    result = export_checkpoint(checkpoint, path, format="torchscript", shape="8x8", low_res="4x4", n_head=2,
                               diffusion_steps=40, noise_schedule="cosine")
    assert [file.name for file in result.files] == ["unet.pt"] and list(path.parent.iterdir()) == [path]
    assert len(result.checks) == 10 and "onnx" not in result.manifest.versions
    return path


def test_it_draws_and_scores_what_the_onnx_files_do(archive: Path, denoiser: Denoiser) -> None:
    with load(archive, kind="denoiser", threads=1) as loaded:
        assert loaded.manifest.diffusion == denoiser.manifest.diffusion
        given = {"seed": 2, "steps": 6, "label": [0, 2], "low_res": SMALL}
        np.testing.assert_allclose(loaded.sample(2, **given), denoiser.sample(2, **given), atol=1e-4)
        images = (np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)) / 127.5 - 1).astype(np.float32)
        np.testing.assert_allclose(loaded.bits_per_dim(images, **given), denoiser.bits_per_dim(images, **given),
                                   rtol=1e-4)


def test_it_is_loaded_from_bytes_and_by_its_own_engine(archive: Path) -> None:
    with load(archive.read_bytes(), kind="denoiser") as loaded:
        assert loaded.sample(1, steps=1, label=0, low_res=SMALL[0]).shape == (1, 8, 8, 3)
    with pytest.raises(GraphFileError, match="siblings were given with an archive"):
        load(archive.read_bytes(), kind="denoiser", siblings={"times": b""})
    with pytest.raises(BackendError, match="onnxruntime"):
        load(archive, backend="onnxruntime")


def test_an_altered_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(GraphFileError):
        load(bytes(data), kind="denoiser")


def test_the_commands_take_it(archive: Path, checkpoint: Path, tmp_path: Path,
                              capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(archive)]) == 0
    assert "intact: an archive of step, times" in capsys.readouterr().out
    np.save(tmp_path / "small.npy", SMALL)
    assert main(["sample", str(archive), "--n", "2", "--label", "1", "--low-res", str(tmp_path / "small.npy"),
                 "--steps", "2", "-o", str(tmp_path / "grid.png")]) == 0
    assert len(verify_export(archive, checkpoint)) == 10


def test_no_operator_is_allowed_that_none_has(archive: Path, tmp_path: Path) -> None:
    export_denoiser(network(shape=(4, 4), low_res=None, mult=(1,), attention=(), scale_shift=False),
                    tmp_path / "plain.pt", format="torchscript")
    used: set[str] = set()
    for path in (archive, tmp_path / "plain.pt"):
        for _, part in torch.jit.load(str(path)).named_children():
            used |= {node.kind() for node in part.inlined_graph.nodes()}
    assert {f"aten::{name}" for name in DENOISER_OPERATORS} <= used <= KINDS
