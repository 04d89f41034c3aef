"""Networks that must be refused, each with the reason."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError

from .zoo import LEVELS, WIDTH, DownRight, First, Masked, Shape, Sketch, conv, head, hot, leak, right
from .zoo_attention import (
    Attention,
    PooledAttention,
    additive_billion,
    attending,
    exp_with_future_maximum,
    inclusive,
    plain_fill,
    soft_ratio,
    start_mask,
    strict,
)


@leak(NotCausalError, "module 'first'", "convolution", "(row +0, column +0)")
def sees_the_pixel_itself(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.elu(m.first(hot(x)))), first=Masked("B", LEVELS, WIDTH, 3), out=head())


@leak(NotCausalError, "module 'block.b'", "convolution", "(row +1, column +1)")
def ordinary_gated_block(shape: Shape) -> nn.Module:
    def block(m: Sketch, z: Tensor) -> Tensor:
        return z + F.glu(m.b(F.elu(m.a(F.elu(z)))), 1)
    inner = Sketch(block, a=DownRight(), b=conv(out=2 * WIDTH, kernel=3, padding=1))
    return Sketch(lambda m, x: m.out(m.block(m.first(hot(x)))), first=First(), block=inner, out=head())


@leak(NotCausalError, "module 'attention'", "mask", "bmm")
def attention_without_a_mask(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape), lambda scores, mask: torch.softmax(scores, -1)))


@leak(NotCausalError, "module 'attention'", "mask")
def mask_of_the_future(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape).T, start_mask))


@leak(NotCausalError, "module 'attention'", "mask")
def mask_one_too_far(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        return m.out(m.attention(F.elu(m.first(hot(x))), hot(x)))
    return Sketch(run, first=First(), out=head(4),
                  attention=Attention(inclusive(shape), plain_fill, keys_from=LEVELS))


@leak(NotCausalError, "module 'attention'", "query 0", "fully masked")
def fully_masked_first_query(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape), lambda s, mask: torch.softmax(s.masked_fill(~mask, -1e10), -1)))


@leak(NotCausalError, "module 'attention'", "fully masked")
def additive_mask_of_the_first_query(shape: Shape) -> nn.Module:
    return attending(Attention(strict(shape), lambda s, mask: torch.softmax(s - 1e10 * (1 - mask.type_as(s)), -1)))


@leak(NotCausalError, "module 'attention'", "mask")
def maximum_over_the_future(shape: Shape) -> nn.Module:
    """The maximum cancels but for the +1e-6 of the divisor: small, but a leak."""
    return attending(Attention(strict(shape), exp_with_future_maximum))


@leak(UnsupportedOpError, "module 'attention'", "ahead")
def keys_ahead(shape: Shape) -> nn.Module:
    """Causal, but queries attend to the next position, whose key sees pixels three columns before."""
    places = shape[0] * shape[1]
    beside = torch.eye(places).bool() | torch.eye(places).roll(1, 1).bool()
    beside[shape[1] - 1:: shape[1]] = torch.eye(places)[shape[1] - 1:: shape[1]].bool()  # not across rows

    def run(m: Sketch, x: Tensor) -> Tensor:
        z = F.elu(right(m.a(hot(x)), 3))
        return m.out(F.elu(m.attention(m.first(hot(x)), z)))
    return Sketch(run, a=conv(LEVELS), first=First(), out=head(4), attention=Attention(beside, plain_fill))


@leak(NotCausalError, "module 'mix'", "(row +0, column +0)")
def queries_see_the_pixel(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        return m.out(F.elu(y + m.attention(m.mix(torch.cat([hot(x), y], 1)), y)))
    return Sketch(run, first=First(), mix=conv(LEVELS + WIDTH), out=head(),
                  attention=Attention(strict(shape), additive_billion, value=WIDTH))


@leak(NotCausalError, "positions of the canvas")
def mean_over_the_canvas(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y * torch.sigmoid(y.mean((2, 3), keepdim=True)))
    return Sketch(run, first=First(), out=head())


@leak(NotCausalError, "mean in module", "positions of the canvas")
def squeeze_and_excite(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y * torch.sigmoid(m.squeeze(F.adaptive_avg_pool2d(y, 1))))
    return Sketch(run, first=First(), squeeze=conv(), out=head())


@leak(NotCausalError, "module 'norm'", "native_batch_norm", "instance norm", "positions of the canvas")
def instance_norm(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.norm(m.first(hot(x)))), first=First(), norm=nn.InstanceNorm2d(WIDTH), out=head())


@leak(NotCausalError, "module 'norm'", "native_group_norm", "positions of the canvas")
def group_norm(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.norm(m.first(hot(x)))), first=First(), norm=nn.GroupNorm(2, WIDTH), out=head())


@leak(NotCausalError, "module 'norm'", "native_layer_norm", "positions of the canvas")
def layer_norm_over_the_canvas(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.norm(m.first(hot(x)))), first=First(), norm=nn.LayerNorm([WIDTH, *shape]),
                  out=head())


@leak(NotCausalError, "sum in module", "positions of the canvas")
def one_hot_painted_over_the_plane(shape: Shape) -> nn.Module:
    """Flattening codes together with the canvas before the one-hot makes every code visible everywhere."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        codes = x.flatten(1).unsqueeze(1).expand(-1, shape[0] * shape[1], -1)  # [B, P, P]: all codes everywhere
        y = F.one_hot(codes, LEVELS).sum(2).view(-1, *shape, LEVELS).permute(0, 3, 1, 2).to(torch.float64)
        return m.out(m.first(y))
    return Sketch(run, first=First(), out=head())


class _AlwaysTraining(nn.Module):
    """A module that puts a layer back into training mode in its forward."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer.train()(x)


@leak(ModelError, "module 'norm.layer'", "statistics of the batch", "eval")
def batch_norm_in_training(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.norm(m.first(hot(x)))), first=First(), norm=_AlwaysTraining(
        nn.BatchNorm2d(WIDTH)), out=head())


@leak(ModelError, "module 'drop.layer'", "dropout|random")
def active_dropout(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.drop(m.first(hot(x)))), first=First(), drop=_AlwaysTraining(nn.Dropout(0.5)),
                  out=head())


@leak(ModelError, "random")
def active_functional_dropout(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.dropout(m.first(hot(x)), 0.5)), first=First(), out=head())


@leak(ModelError, "rand in module", "random")
def weights_that_change(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(m.first(hot(x)) + torch.rand(WIDTH, 1, 1)), first=First(), out=head())


@leak(UnsupportedOpError, "data-dependent", "_local_scalar_dense")
def branch_on_data(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y if y.mean().item() > 0 else -y)
    return Sketch(run, first=First(), out=head())


@leak(UnsupportedOpError, "data-dependent")
def branch_on_a_pixel(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = m.first(hot(x))
        return m.out(y if x[0, 0, 0] > 1 else -y)
    return Sketch(run, first=First(), out=head())


@leak(UnsupportedOpError, "erfinv", "module 'deep.inner'", "supported operations")
def unknown_operation(shape: Shape) -> nn.Module:
    inner = Sketch(lambda m, y: torch.erfinv(torch.tanh(y)))
    return Sketch(lambda m, x: m.out(m.deep(m.first(hot(x)))), first=First(), out=head(),
                  deep=Sketch(lambda m, y: m.inner(y), inner=inner))


@leak(UnsupportedOpError, "ahead")
def reads_columns_ahead(shape: Shape) -> nn.Module:
    """Causal, but a value would have to be computed two columns before its own position."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(right(m.a(hot(x)), 3))
        ahead = F.pad(y, [0, 2, 0, 0])[:, :, :, 2:]
        return m.out(F.elu(y + ahead))
    return Sketch(run, a=conv(LEVELS), out=head())


@leak(UnsupportedOpError, "ahead")
def reads_a_row_ahead(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(F.pad(m.a(hot(x)), [0, 0, 2, 0])[:, :, :-2])
        ahead = F.pad(y, [0, 0, 0, 1])[:, :, 1:]
        return m.out(F.elu(y + ahead))
    return Sketch(run, a=conv(LEVELS), out=head())


@leak(UnsupportedOpError, "max_pool2d", "tile the map")
def pooled(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.interpolate(F.max_pool2d(m.first(hot(x)), 2), scale_factor=2.0)),
                  first=First(), out=head())


@leak(UnsupportedOpError, "pooled values may only be keys", shape=(4, 6))
def pooled_features(shape: Shape) -> nn.Module:
    return Sketch(lambda m, x: m.out(F.interpolate(F.elu(F.max_pool2d(m.first(hot(x)), 2)), scale_factor=2.0)),
                  first=First(), out=head())


@leak(NotCausalError, "mask", shape=(4, 6))
def pooled_keys_counted_too_early(shape: Shape) -> nn.Module:
    """A block counts as soon as its first position is past, although it holds later ones."""
    begun = strict(shape).view(-1, *shape)[:, ::2, ::2].flatten(1)
    return attending(PooledAttention(begun, soft_ratio))


@leak(UnsupportedOpError, "before the first pixel")
def pad_of_a_pad(shape: Shape) -> nn.Module:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.pad(F.pad(m.first(hot(x)), [1, 0, 1, 0], value=0.3), [1, 0, 1, 0], value=-1.1)
        return m.out(F.elu(m.next(y)))
    return Sketch(run, first=First(), next=conv(kernel=3), out=head())


@leak(UnsupportedOpError, "pads or crops pooled values", shape=(4, 6))
def pooled_keys_shifted(shape: Shape) -> nn.Module:
    """Blocks moved by a block: which pixels a key holds is no longer told by its number."""
    class Shifted(PooledAttention):
        def split(self, x: Tensor) -> Tensor:
            blocks = x.shape[2:] != shape
            return super().split(right(x).contiguous() if blocks else x)
    return attending(Shifted(strict(shape).view(-1, *shape)[:, 1::2, 1::2].flatten(1), soft_ratio))


@leak(UnsupportedOpError, "pairs every position")
def additive_attention(shape: Shape) -> nn.Module:
    """Scores that are sums of a query's and a key's number."""
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = F.elu(m.first(hot(x)))
        scores = m.q(y).flatten(1)[:, :, None] + m.k(y).flatten(1)[:, None]
        mixed = start_mask(scores, strict(shape)) @ y.flatten(2).transpose(1, 2)
        return m.out(F.elu(y + mixed.transpose(1, 2).reshape(y.shape)))
    return Sketch(run, first=First(), q=conv(out=1), k=conv(out=1), out=head())
