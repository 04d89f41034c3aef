"""Sequences: what their states are, what is computed once per image, and how a leak among them is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pixelsnail_infer.errors import ModelError, NotCausalError
from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.lowering.lower import lower
from pixelsnail_infer.export.tracing.trace import trace_model

from .gate import compiled
from .networks import LEAKS, NETWORKS, zoo_fronts, zoo_sequences
from .zoo import LEVELS, Network
from .zoo_sequences import DIM, Transformer, below

SHAPE = (3, 4)
ATTENDING = [name for name, net in NETWORKS.items() if net.make.__module__ in (zoo_fronts.__name__,
                                                                               zoo_sequences.__name__)
             and name != "convolution_and_raster_shift"]


@pytest.mark.parametrize("name", ATTENDING)
def test_every_cache_grows_and_one_row_is_kept_of_what_is_shifted(name: str) -> None:
    layout = compiled(NETWORKS[name], NETWORKS[name].shapes[0]).layout
    assert layout.caches and all(cache.grows for cache in layout.caches)
    if name == "transformer_mixed":  # two tokens are read, one before and two before
        assert [(canvas.rows, len(canvas.members)) for canvas in layout.canvases] == [(1, 2)]
    elif "many" not in name:  # tokens so far behind that the row graph computes them
        assert [(canvas.rows, len(canvas.members)) for canvas in layout.canvases] == [(1, 1)]


def test_a_step_multiplies_every_weight_once() -> None:
    """Two layers of 8 d² weights, the codes' table and the head's; per row nothing but tables of positions."""
    program, weights = compiled(NETWORKS["transformer"], SHAPE), 2 * 8 * DIM ** 2
    step, row = (build_part(program, part).weights for part in ("step", "row"))
    assert weights < step < weights + 60 * DIM and row < 3 * 12 * DIM


@pytest.mark.parametrize("name", [name for name in ATTENDING if "front" in name])
def test_tokens_in_front_are_computed_once_per_image(name: str) -> None:
    program = compiled(NETWORKS[name], SHAPE if SHAPE in NETWORKS[name].shapes else (4, 6)).program
    late = program.of(Stage.ROW, Stage.BEFORE, Stage.AFTER)
    assert all(node.frame in (program.shape, None) for node in late)
    assert sum(node.op == "key_mix" for node in late) == len(program.support)


def test_pixels_attend_to_what_is_in_front_and_to_what_is_drawn() -> None:
    """In one softmax: of the front's keys all that the mask shows, of the canvas's those up to the pixel."""
    program = compiled(NETWORKS["front_of_a_grid"], (4, 6)).program
    assert [tuple(found.used.shape) for found in program.support.values()] == [(24, 6), (24, 24)] * 2
    front, canvas = list(program.support.values())[:2]
    assert bool(front.used.all()) and torch.equal(canvas.used, below(24))
    hidden = list(compiled(NETWORKS["front_is_masked_out"], SHAPE).program.support.values())
    assert not bool(hidden[0].used.any()) and torch.equal(hidden[1].used, below(12))


LEAKING = {"without_a_shift": LEAKS["transformer_without_a_shift"].make,
           "mask_one_too_far": LEAKS["transformer_mask_one_too_far"].make,
           "shift_the_other_way": LEAKS["transformer_shift_the_other_way"].make,
           "front_sees_a_pixel": LEAKS["front_sees_a_pixel"].make}


@pytest.mark.parametrize("name", LEAKING)
def test_a_leak_is_told_with_a_pair_of_pixels(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module: nn.Module = LEAKING[name](SHAPE).eval()
    with pytest.raises(NotCausalError, match=r"changing pixel \(row \d, column \d\) changes .*(The leak|no further)"):
        export_model(module, tmp_path / "out.onnx", levels=LEVELS, shape=SHAPE)
    assert not list(tmp_path.iterdir())


def test_an_output_of_too_many_tokens_is_refused() -> None:
    class Long(Transformer):
        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            return self.run(torch.cat([self.start.expand(len(codes), -1, -1), self.tokens(codes)], 1))
    net = Network("long", lambda shape: Long(shape, front=2), (SHAPE,))
    with pytest.raises(ModelError, match="13 tokens; give the last 12 of them"):
        lower(trace_model(net.module(SHAPE), lambda m, x: m(x), net.inputs(SHAPE)), "pixels", SHAPE)
