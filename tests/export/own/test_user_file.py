"""What can be wrong with the file, the arguments, the weights and the options: one clear line, nothing written."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelsnail_infer.checkpoints.fitting import load_into
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.export.cli import main
from pixelsnail_infer.export.source.user_model import model_arguments, user_model
from pixelsnail_infer.runtime import load

from .models import CASES, LEVELS, USER, checkpoint, weights

Capture = pytest.CaptureFixture[str]
CASE = CASES["alone"]
Weights = dict[str, torch.Tensor]


def refused(arguments: list[str], folder: Path, capsys: Capture) -> str:
    """The line that the command prints; nothing is written."""
    out = folder / "out"
    out.mkdir()
    path = folder / "net.pt"
    if not path.exists():
        checkpoint(CASE, path)
    assert main(["-q", str(path), str(out / "out.onnx"), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.err.startswith("export-model: ") and not list(out.iterdir())
    return printed.err


def changed(**options: str | None) -> list[str]:
    """The options of a good export, some replaced, or left out where they are None."""
    pairs = dict(zip(CASE.options()[::2], CASE.options()[1::2], strict=True))
    pairs |= {f"--{name.replace('_', '-')}": value for name, value in options.items()}  # type: ignore[misc]
    return [part for name, value in pairs.items() if value is not None for part in (name, value)]


@pytest.mark.parametrize("options, says", [
    ({"model": "net.py"}, "expected a file and a class in it"), ({"model": "net.py:"}, "expected a file and a class"),
    ({"model": "none.py:Net"}, "none.py, which does not exist"), ({"model": f"{USER}:Net"}, "is no Python file"),
    ({"model": f"{USER / 'net.py'}:Nut"}, "net.py has no Nut; its modules are Masked, Gated, Attention, Net"),
    ({"model": f"{USER / 'net.py'}:warnings"}, "has a module called warnings, not a class"),
    ({"model": f"{USER / 'net.py'}:Sizes", "model_args": '{"width": 1, "levels": 2}'}, "a Sizes, expected a torch"),
    ({"model_args": "{"}, "expected a JSON object"), ({"model_args": "[32]"}, "expected a JSON object"),
    ({"model_args": '{"shape": 1, "shape": 2}'}, "occurs twice"),
    ({"model_args": '{"shape": [4, 6], "levels": 7, "depht": 1}'}, "unexpected keyword argument 'depht'"),
    ({"model_args": None}, "missing 2 required positional arguments"),
    ({"model_args": '{"shape": "ab", "levels": 7}'}, "fails at net.py:"),
    ({"shape": None}, "--model needs --shape HxW as well"),
    ({"levels": None}, "--model needs --levels N (codes) or --mixture"),
    ({"levels": None, "shape": None}, "or --mixture N_MIXxCHANNELS (images) and --shape HxW as well"),
    ({"levels": "0"}, "--levels is 0"), ({"mixture": "10x3"}, "give one of the two"),
    ({"levels": None, "mixture": "10"}, "--mixture is '10'"), ({"levels": None, "mixture": "10x2"}, "10x1 for grey"),
    ({"levels": "5"}, "gives 7 numbers per pixel, expected 5"), ({"levels": "9"}, "forward fails at net.py:"),
    ({"shape": "4x5"}, "fails at net.py:"), ({"shape": "4"}, "--shape is '4'"),
    ({"condition": "label"}, "has no kind"), ({"condition": "label:class:x"}, "'x' in 'class:x'"),
    ({"condition": "lable:class:3"}, "unexpected keyword argument 'lable'"),
    ({"condition": "label:class:3"}, "fails at net.py:"), ({"n_head": "2"}, "--n-head is for checkpoints of known"),
    ({"upsample": "2"}, "--upsample is for checkpoints of known families and has no meaning with --model"),
])  # fmt: skip
def test_options_that_do_not_fit(options: dict[str, Any], says: str, tmp_path: Path, capsys: Capture) -> None:
    assert says in refused(changed(**options), tmp_path, capsys)


@pytest.mark.parametrize("flag", ["--round", "--elu-inplace", "--no-condition", "--no-ema", "--unsafe-pickle"])
def test_switches_of_other_models(flag: str, tmp_path: Path, capsys: Capture) -> None:
    assert flag in refused([*CASE.options(), flag], tmp_path, capsys)


@pytest.mark.parametrize("options", [
    ["--model-args", "{}"], ["--levels", "7"], ["--mixture", "5x3"], ["--condition", "label:class:3"],
])
def test_a_class_of_ones_own_needs_its_file(options: list[str], tmp_path: Path, capsys: Capture) -> None:
    digits = Path(__file__).parents[3] / "examples" / "digits.pt"
    assert main(["-q", str(digits), str(tmp_path / "out.onnx"), *options]) == 1
    assert f"{options[0]} goes with a class of your own (--model FILE.py:CLASS)" in capsys.readouterr().err


FILES = {
    "syntax": ("import torch\nclass Net(:\n", "importing mine.py fails at mine.py:2: SyntaxError"),
    "import": ("import torch\n\nimport nowhere_to_be_found\n", "fails at mine.py:3: ModuleNotFoundError"),
    "exit": ("import sys\nsys.exit('no data set')\n", "fails at mine.py:2: SystemExit: no data set"),
    "error": ("x = 1\ny = x / 0\n", "fails at mine.py:2: ZeroDivisionError"),
    "constructor": ("class Net:\n    def __init__(self, **_):\n        self.x = 1\n\n        raise ValueError('odd')\n",
                    "making Net of mine.py with --model-args {"),
    "forward": ("from torch import nn\nclass Net(nn.PReLU):\n    def forward(self, x):\n        return x + {}\n",
                "forward fails at mine.py:4: TypeError"),
    "relative": ("from .layers import Layer\n", "fails at mine.py:1: ImportError"),
}


@pytest.mark.parametrize("kind", FILES)
def test_errors_of_the_files_code(kind: str, tmp_path: Path, capsys: Capture) -> None:
    text, says = FILES[kind]
    (tmp_path / "mine.py").write_text(text)
    torch.save({"weight": torch.ones(1)}, tmp_path / "net.pt")
    arguments = {"model_args": None} if kind == "forward" else {}
    message = refused(changed(model=f"{tmp_path / 'mine.py'}:Net", **arguments), tmp_path, capsys)
    assert says in message and "Traceback" not in message
    assert kind != "constructor" or "mine.py:5: ValueError: odd" in message


def test_neighbours_are_found_and_forgotten(tmp_path: Path) -> None:
    """Two files of one name with neighbours of one name, a package among them, in one process."""
    for folder, width in (("a", 3), ("b", 5)):
        (tmp_path / folder / "parts").mkdir(parents=True)
        (tmp_path / folder / "parts" / "__init__.py").write_text("from parts.sizes import WIDTH\n")
        (tmp_path / folder / "parts" / "sizes.py").write_text(f"WIDTH = {width}\n")
        (tmp_path / folder / "net.py").write_text(
            "from torch import nn\nimport parts\n\n"
            "def Net():\n    import late_one\n    return nn.Linear(parts.WIDTH, 1)\n")
        (tmp_path / folder / "late_one.py").write_text("")
        with user_model(f"{tmp_path / folder / 'net.py'}:Net", {}) as module:
            assert module.in_features == width
        assert not {"parts", "parts.sizes", "late_one"} & set(sys.modules)


def test_lists_stay_lists() -> None:
    assert model_arguments('{"shape": [32, 16], "name": "x", "dropout": 0.1, "deep": {"a": null}}') == {
        "shape": [32, 16], "name": "x", "dropout": 0.1, "deep": {"a": None}}
    assert model_arguments(None) == {}
    with pytest.raises(ModelError, match="NaN"):
        model_arguments('{"a": NaN}')


# Weights --------------------------------------------------------------------------------------------------------------


def parametrised(state: Weights) -> Weights:
    """The other spelling of weight norm."""
    return {name.replace("weight_g", "parametrizations.weight.original0")
            .replace("weight_v", "parametrizations.weight.original1"): tensor for name, tensor in state.items()}


WRAPPED: dict[str, tuple[Callable[[Weights], object], str]] = {
    "bare": (lambda s: s, "is in the file"),
    "prefixed": (lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}, "took the prefix 'module.'"),
    "under another name": (lambda s: {"net": s, "epoch": 3, "optim": {"lr": 0.1}}, "took the weights under 'net'"),
    "parametrised": (parametrised, "renamed 16 tensors"),
    "stale": (lambda s: {**s, "attention.query.weight": torch.zeros(8, 8)}, "ignored 1 stale .weight tensors"),
    "double": (lambda s: {k: v.double() if v.is_floating_point() else v for k, v in s.items()}, "is in the file"),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_weights_in_other_wrappings(kind: str, tmp_path: Path) -> None:
    wrap, says = WRAPPED[kind]
    state, findings = weights(CASE), list[str]()
    torch.save(wrap(state), tmp_path / "net.pt")
    with user_model(f"{USER / 'net.py'}:Net", model_arguments(CASE.made_with)) as module:
        digest = load_into(module, tmp_path / "net.pt", findings)
        found = module.state_dict()
    assert len(digest) == 64 and any(says in finding for finding in findings)
    assert found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state)


def without(*names: str) -> Callable[[Weights], object]:
    return lambda state: {name: tensor for name, tensor in state.items() if name not in names}


class Trap:
    """Unpickling this in full would stop Python."""

    def __reduce__(self) -> Any:
        return sys.exit, (7,)


WRONG: dict[str, tuple[Callable[[Weights], object], str]] = {
    "missing": (without("join.bias", "out.1.weight"), "missing are join.bias, out.1.weight. Check the class"),
    "surplus": (lambda s: {**s, "head.weight": torch.zeros(2)}, "not in the model are head.weight"),
    "misshapen": (lambda s: {**s, "join.bias": torch.zeros(9)}, "of another shape are join.bias [9] instead of [8]"),
    "another model": (lambda s: {f"layers.{k}.weight": torch.zeros(1) for k in range(9)}, " and 5 more"),
    "nan": (lambda s: {**s, "join.bias": torch.full((8,), torch.nan)}, "tensor join.bias holds NaN"),
    "no weights": (lambda s: {"epoch": 3, "history": [1.0]}, "no weights were found: it holds epoch, history"),
    "two sets": (lambda s: {"net": s, "other": {k: v + 1 for k, v in s.items()}}, "2 models fit: 'net' (Net, "),
    "no dict": (lambda s: [1, 2], "the file holds a list"),
    "a trap": (lambda s: {"model": s, "args": Trap()}, "is refused: reading it would import or run"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_weights_that_do_not_fit(kind: str, tmp_path: Path, capsys: Capture) -> None:
    make, says = WRONG[kind]
    torch.save(make(weights(CASE)), tmp_path / "net.pt")
    assert says in refused(CASE.options(), tmp_path, capsys)


def test_batch_norm_of_an_older_pytorch(tmp_path: Path) -> None:
    """Its files lack the count of batches, from which nothing is computed."""
    norm = torch.nn.BatchNorm2d(3)
    state = {name: torch.rand_like(tensor) for name, tensor in norm.state_dict().items() if tensor.is_floating_point()}
    torch.save(state, tmp_path / "norm.pt")
    load_into(norm, tmp_path / "norm.pt", [])
    assert norm.running_var is not None and torch.equal(norm.running_var, state["running_var"])
    del state["running_var"]
    torch.save(state, tmp_path / "norm.pt")
    with pytest.raises(CheckpointError, match="missing are running_var"):
        load_into(norm, tmp_path / "norm.pt", [])


MIXTURE = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_mix):
        super().__init__()
        self.conv = nn.Conv2d(1, 3 * n_mix, (1, 2))

    def forward(self, x, depth):
        y = self.conv(nn.functional.pad(x, [2, 0, 0, 0])[:, :, :, :-1])
        return torch.cat([y[:, :1] + depth, y[:, 1:]], 1)
'''


@pytest.mark.parametrize("more", [[], ["--round"]])
def test_images_and_their_mixtures(more: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MIXTURE)
    torch.manual_seed(0)
    torch.save({"conv.weight": torch.randn(6, 1, 1, 2), "conv.bias": torch.randn(6)}, tmp_path / "net.pt")
    options = ["--model", f"{tmp_path / 'mine.py'}:Net", "--model-args", '{"n_mix": 2}', "--mixture", "2x1",
               "--shape", "3x4", "--condition", "depth:map:1x3x4", *more]
    assert main(["-q", str(tmp_path / "net.pt"), str(tmp_path / "out.onnx"), *options]) == 0
    with load(tmp_path / "out.onnx", threads=1) as sampler:
        manifest, images = sampler.manifest, sampler.sample(2, depth=torch.zeros(1, 3, 4).numpy())
    assert images.shape == (2, 3, 4, 1) and manifest.distribution.round == bool(more)
    assert manifest.distribution.n_mix == 2 and LEVELS not in images
