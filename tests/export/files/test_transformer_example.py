"""The transformer over digits, exported as its own file says: it draws, completes and scores as PyTorch would, and its
pictures look like their labels."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixelsnail_infer.export.cli import main
from pixelsnail_infer.export.source.user_model import user_model
from pixelsnail_infer.runtime import Sampler, load

ROOT = Path(__file__).parents[3]
FILE, CHECKPOINT = ROOT / "examples" / "digits_transformer.py", ROOT / "examples" / "digits_transformer.pt"
LABELS = list(range(10)) * 2
PARAMETERS = 3 * 12 * 96 ** 2  # of three layers: what every token is multiplied with, without biases


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command in the example's own docstring writes."""
    command = re.findall(r"^    export-model (.*?)\n    pixelsnail-infer", FILE.read_text(), re.M | re.S)[0]
    arguments = [str(ROOT / part) if part.startswith("examples/") else part
                 for part in shlex.split(command.replace("\\\\\n", " "))]
    arguments[1] = str(tmp_path_factory.mktemp("transformer") / arguments[1])
    assert main(["-q", *arguments]) == 0
    return Path(arguments[1])


@pytest.fixture(scope="module")
def sampler(written: Path) -> Sampler:
    return load(written, threads=1)


@pytest.fixture(scope="module")
def codes(sampler: Sampler) -> NDArray[np.int64]:
    return sampler.sample(20, seed=0, label=LABELS)


def logits(codes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of the module itself, `[B, H, W, levels]`."""
    with user_model(f"{FILE}:DigitsTransformer", {}) as module, torch.no_grad():
        module.load_state_dict(torch.load(CHECKPOINT, weights_only=False)["model"])
        return module.eval()(torch.from_numpy(codes), torch.tensor(LABELS)).permute(0, 2, 3, 1).numpy()


def test_the_step_is_the_transformers_own(written: Path, sampler: Sampler) -> None:
    """Every weight once, a cache of keys and one of values for each layer, and a canvas that holds the token before."""
    described = sampler.manifest
    assert PARAMETERS < described.parameters.per_step < 1.05 * PARAMETERS
    assert described.parameters.per_row < 0.05 * PARAMETERS
    assert sorted(state.role for state in described.states) == ["canvas", *["keys"] * 3, *["values"] * 3]


def test_it_gives_what_pytorch_gives(sampler: Sampler, codes: NDArray[np.int64]) -> None:
    expected = logits(codes)
    limit = 1e-4 * float(expected.std())
    assert np.abs(sampler.replay(codes, label=LABELS, twice=True) - expected).max() < limit
    assert np.abs(sampler.replay(codes, label=LABELS, known_rows=3) - expected)[:, 3:].max() < limit
    every = torch.from_numpy(expected).log_softmax(-1).numpy()
    likelihood = np.take_along_axis(every, codes[..., None], -1)[..., 0]
    assert np.abs(sampler.score(codes, label=LABELS) - likelihood).max() < 1e-3


def test_completion_gives_the_same_images(sampler: Sampler, codes: NDArray[np.int64]) -> None:
    mask = np.arange(8)[:, None].repeat(8, 1) < 5
    known = np.where(mask, codes, 0)
    assert np.array_equal(sampler.sample(20, seed=0, label=LABELS, known=known, known_mask=mask), codes)
    assert np.array_equal(sampler.sample(20, seed=0, label=LABELS, max_batch=3), codes)


def test_they_look_like_their_labels(sampler: Sampler, codes: NDArray[np.int64]) -> None:
    """The model that drew them finds their own label the likeliest of all ten, nearly always."""
    scores = np.stack([sampler.score(codes, label=k).sum((1, 2)) for k in range(10)])
    assert (scores.argmax(0) == LABELS).mean() >= 0.9


@pytest.mark.full
@pytest.mark.parametrize("options", [["--precision", "float16"], ["--precision", "int8"], ["--format", "torchscript"]])
def test_other_plans_and_formats(tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / ("out.pt" if "torchscript" in options else "out.onnx")
    arguments = [str(CHECKPOINT), str(out), "--model", f"{FILE}:DigitsTransformer", "--shape", "8x8", "--levels", "17",
                 "--condition", "label:class:10", *options]
    assert main(["-q", *arguments]) == 0 and out.is_file()
