"""Graphs with conditional work build TensorRT engines, in which it is done always."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.distributions import Categorical

from .building import build_engine, graphs

pytestmark = pytest.mark.full
pytest.importorskip("tensorrt_rtx_bindings", reason="needs the tensorrt-rtx extra (make test-full)")


class Halved(nn.Module):
    """Rows above as one stream and what is drawn as another, both halved, met and doubled again."""

    def __init__(self, stride: tuple[int, int], levels: int = 5, width: int = 6) -> None:
        super().__init__()
        self.levels, (rows, columns) = levels, stride
        self.above, self.left = nn.Conv2d(levels, width, (2, 3)), nn.Conv2d(levels, width, (1, 2))
        self.down_above, self.down_left = nn.Conv2d(width, width, (2, 3), stride), nn.Conv2d(width, width, 2, stride)
        self.up_above = nn.ConvTranspose2d(width, width, (2, 3), stride, output_padding=(rows - 1, columns - 1))
        self.up_left = nn.ConvTranspose2d(width, width, 2, stride, output_padding=(rows - 1, columns - 1))
        self.out = nn.Conv2d(2 * width, levels, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        height, wide = pixels.shape[1:]
        x = F.one_hot(pixels, self.levels).permute(0, 3, 1, 2).to(self.out.weight.dtype)
        above = F.pad(self.above(F.pad(x, [1, 1, 1, 0])), [0, 0, 1, 0])[:, :, :-1]
        left = above + F.pad(self.left(F.pad(x, [1, 0, 0, 0])), [1, 0, 0, 0])[:, :, :, :-1]
        a = F.elu(self.down_above(F.pad(above, [1, 1, 1, 0])))
        b = F.elu(self.down_left(F.pad(left, [1, 0, 1, 0])) + a)
        return self.out(torch.cat([above + self.up_above(a)[:, :, :height, 1:wide + 1],
                                   left + self.up_left(b)[:, :, :height, :wide]], 1))


@pytest.mark.parametrize("stride", [(2, 2), (2, 1)])
def test_every_graph_builds_an_engine_and_states_stay_in_place(stride: tuple[int, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = dict(graphs(Halved(stride), Categorical(5), (6, 6), ()))
    assert all("If" in {node.op_type for node in made[part].graph.node} for part in ("step", "row"))
    for part, model in made.items():
        scatters = [node for node in model.graph.node if node.op_type == "TensorScatter"]
        _, layers = build_engine(model.SerializeToString(), tmp_path)
        assert layers.count("KV_CACHE_UPDATE") == len(scatters), part
        assert scatters or part == "score"
