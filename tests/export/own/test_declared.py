"""The Python interface: conditions declared by text, `forward`, and what is refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.source.declared import condition_specs, declared_text, named_condition
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.runtime import load

LEVELS, SHAPE = 5, (3, 4)


@pytest.mark.parametrize("text, spec", [
    ("class:10", ConditionSpec("c", "class", (), "int64", 10)),
    ("codes:32x16:512", ConditionSpec("c", "codes", (32, 16), "int64", 512)),
    ("vector:512", ConditionSpec("c", "vector", (512,), "float32")),
    ("map:3x32x16", ConditionSpec("c", "map", (3, 32, 16), "float32")),
])
def test_declarations(text: str, spec: ConditionSpec) -> None:
    assert condition_specs({"c": text}) == (spec,) == condition_specs([spec]) == condition_specs({"c": spec})
    assert named_condition(f"c:{text}") == spec and declared_text([spec]) == f"c:{text}"


@pytest.mark.parametrize("text, says", [
    ("label", "'label' has no kind; expected NAME: and then one of class:LEVELS"),
    ("label:", "is of no known kind"), ("label:klass:3", "'klass:3' is of no known kind"),
    ("label:class", "has 0 parts after 'class'; expected such as class:10"),
    ("label:class:3:4", "has 2 parts after 'class'"), ("label:class:0", "'0' in 'class:0' is not what belongs there"),
    ("label:class:ten", "'ten'"), ("label:class:-3", "'-3'"), ("label:class:²", "'²'"),
    ("top:codes:32:512", "'32' in"), ("top:codes:32x32", "expected such as codes:32x32:512"),
    ("top:codes:32x0:512", "'32x0'"), ("top:codes:32x32:", "''"), ("h:vector:3x4", "'3x4'"), ("h:vector:", "''"),
    ("m:map:32x32", "'32x32' in 'map:32x32'"), ("m:map:3x32x32:2", "has 2 parts"),
    ("two words:class:3", "no name of a Python argument"), (":class:3", "no name of a Python argument"),
])  # fmt: skip
def test_malformed_declarations(text: str, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        named_condition(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("conditions, says", [
    ({"a": ConditionSpec("b", "class", (), "int64", 2)}, "of the name 'b'"),
    ({"a": 3}, "declared by a int"), (["class:3"], "declared by a str"),
    ([ConditionSpec("a", "class", (), "int64", 2)] * 2, "declared twice"),
    ({"seed": "class:3"}, "'seed' is an argument of the runtime's sample"),
    ({"known_rows": "class:3"}, "argument of the runtime's replay"),
])
def test_conditions_that_cannot_be(conditions: Any, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        condition_specs(conditions)
    assert says in str(caught.value)


class Lines(nn.Module):
    """Every pixel from the one to its left and the conditions; takes them under names of its own, gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.codes, self.out = nn.Embedding(LEVELS, 6), nn.Linear(6, LEVELS)
        self.label, self.style = nn.Embedding(3, 6), nn.Linear(2, 6)

    def forward(self, x: Tensor, kind: Tensor, look: Tensor) -> dict[str, Tensor]:
        y = self.codes(x)
        y = torch.cat([torch.zeros_like(y[:, :, :1]), y[:, :, :-1]], 2)  # [B, H, W, C]
        y = y + (self.label(kind) + self.style(look))[:, None, None]
        return {"logits": self.out(torch.tanh(y)), "features": y}


def last_first(m: nn.Module, x: Tensor, c: dict[str, Tensor]) -> Tensor:
    return m(x, kind=c["label"], look=c["style"])["logits"].permute(0, 3, 1, 2)


DECLARED = {"label": "class:3", "style": "vector:2"}


def test_forward_takes_module_pixels_and_conditions(tmp_path: Path) -> None:
    module = Lines()
    done = export_model(module, tmp_path / "out.onnx", forward=last_first, levels=LEVELS, shape=SHAPE,
                        conditions=DECLARED)
    assert declared_text(done.manifest.conditions) == "label:class:3, style:vector:2"
    random = np.random.default_rng(0)
    codes, given = random.integers(0, LEVELS, (3, *SHAPE)), {
        "label": np.array([2, 0, 1]), "style": random.standard_normal((3, 2)).astype(np.float32)}
    with load(tmp_path / "out.onnx", threads=1) as sampler, torch.no_grad():
        found = sampler.replay(codes, **given)
        expected = last_first(module, torch.from_numpy(codes), {k: torch.from_numpy(v) for k, v in given.items()})
    assert np.abs(found - expected.permute(0, 2, 3, 1).numpy()).max() < 1e-5


@pytest.mark.parametrize("settings, says", [
    ({"forward": None}, "cannot be called with pixels and the conditions label, style by name"),
    ({"forward": None, "conditions": {}}, "cannot be called with pixels and no conditions"),
    ({"forward": lambda m, x, c: m(x, c["label"], c["style"])}, "returns a dict with the keys logits, features"),
    ({"forward": lambda m, x, c: m(x, c["label"], c["style"])["logits"]}, "gives a tensor [1, 3, 4, 5] for 1 images"),
    ({"forward": lambda m, x, c: last_first(m, x, c)[:, :4]}, "gives 4 numbers per pixel, expected 5"),
    ({"forward": lambda m, x, c: m(x, c["kind"])}, "forward fails at test_declared.py:"),
    ({"shape": (3, 5), "forward": lambda m, x, c: last_first(m, x[:, :, :4], c)}, "[1, 5, 3, 4]"),
    ({"shape": (3,)}, "expected the rows and columns"), ({"shape": (0, 4)}, "expected the rows and columns"),
    ({"shape": (3, 4.0)}, "expected the rows and columns"), ({"levels": None}, "one of the two"),
    ({"levels": 0}, "levels is 0"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    asked = {"forward": last_first, "levels": LEVELS, "shape": SHAPE, "conditions": DECLARED, **settings}
    with pytest.raises(ModelError) as caught:
        export_model(Lines(), tmp_path / "out.onnx", **asked)
    assert says in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda m: nn.DataParallel(torch.compile(m))])
def test_wrappers_are_taken_off(wrap: Any, tmp_path: Path) -> None:
    module = Lines()
    export_model(wrap(module), tmp_path / "out.onnx", forward=last_first, levels=np.int64(LEVELS),
                 shape=torch.Size(SHAPE), conditions=DECLARED)
    codes = np.random.default_rng(0).integers(0, LEVELS, (1, *SHAPE))
    given = {"label": np.array([1]), "style": np.ones((1, 2), np.float32)}
    with load(tmp_path / "out.onnx", threads=1) as sampler, torch.no_grad():
        expected = last_first(module, torch.from_numpy(codes), {k: torch.from_numpy(v) for k, v in given.items()})
        assert np.abs(sampler.replay(codes, **given) - expected.permute(0, 2, 3, 1).numpy()).max() < 1e-5


def test_a_list_counts_as_a_tuple(tmp_path: Path) -> None:
    done = export_model(Lines(), tmp_path / "out.onnx", forward=lambda m, x, c: [last_first(m, x, c), None],
                        levels=LEVELS, shape=SHAPE, conditions=DECLARED)
    assert any("returns a list of 2: its first element" in note for note in done.manifest.notes)


def test_a_module_that_cannot_be_copied_is_refused(tmp_path: Path) -> None:
    module = Lines()
    module.file = (line for line in "ab")  # type: ignore[assignment]
    with pytest.raises(ModelError, match="Lines cannot be copied"):
        export_model(module, tmp_path / "out.onnx", forward=last_first, levels=LEVELS, shape=SHAPE, conditions=DECLARED)
