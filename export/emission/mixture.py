"""The discretised mixture of logistics in the graph: the draw, and the likelihood of given pixels.

The same formulas as `pixelsnail_infer.distributions.mixture`, which names their sources, in standard operations.
"""

from __future__ import annotations

from pixelsnail_infer.distributions import LogisticMixture
from pixelsnail_infer.distributions.mixture import EDGE, HALF_BIN, LOG_BIN, LOG_SMALL, LOWEST, earlier
from pixelsnail_infer.export.emission.maps import softplus
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter

__all__ = ["write_log_probability", "write_mixture_draw"]


def write_mixture_draw(w: GraphWriter, parameters: str, noise: str, temperature: str, mixture: LogisticMixture) -> str:
    """Pixels `[B, C]` from `parameters [B, n]`, `noise [B, K + C]` and `temperature [B, 1]`."""
    count, channels = mixture.n_mix, mixture.channels
    kinds = _kinds(mixture)
    logits, rest = w.ops("Split", 2, parameters, w.constant([count, mixture.parameters - count]), axis=1)
    gumbel, logistic = w.ops("Split", 2, noise, w.constant([count, channels]), axis=1)
    scores = w.op("Add", logits, w.op("Mul", temperature, gumbel))
    component = w.op("Unsqueeze", w.op("ArgMax", scores, axis=1, keepdims=1), w.constant([2]))  # [B, 1, 1]
    index = w.op("Expand", component, w.constant([1, channels * kinds, 1]))
    rest = w.op("Reshape", rest, w.constant([0, channels * kinds, count]))
    taken = w.op("Reshape", w.op("GatherElements", rest, index, axis=2), w.constant([0, channels, kinds]))
    means, log_scales, *coefficients = (
        w.op("Squeeze", part, w.constant([2])) for part in w.ops("Split", kinds, taken, w.constant([1] * kinds), axis=2)
    )  # [B, C]
    spread = w.op("Mul", w.op("Exp", w.op("Max", log_scales, w.constant(LOWEST))), logistic)
    values = w.op("Add", means, w.op("Mul", temperature, spread))
    if channels == 1:
        return _fed_back(w, values, mixture)
    moves = _each(w, w.op("Tanh", coefficients[0]), 3, 1)
    drawn: list[str] = []
    for channel, value in enumerate(_each(w, values, channels, 1)):
        for number, other in earlier(channel):
            value = w.op("Add", value, w.op("Mul", moves[number], drawn[other]))
        drawn.append(_fed_back(w, value, mixture))
    return w.op("Concat", *drawn, axis=1)


def write_log_probability(w: GraphWriter, parameters: str, pixels: str, mixture: LogisticMixture) -> str:
    """Natural-log probabilities `[B, P]` of `pixels [B, P, C]` under `parameters [B, P, n]`, summed over channels."""
    count, channels = mixture.n_mix, mixture.channels
    kinds = _kinds(mixture)
    logits, rest = w.ops("Split", 2, parameters, w.constant([count, mixture.parameters - count]), axis=2)
    rest = w.op("Reshape", rest, w.constant([0, 0, channels, kinds, count]))
    means, log_scales, *coefficients = (
        w.op("Squeeze", part, w.constant([3])) for part in w.ops("Split", kinds, rest, w.constant([1] * kinds), axis=3)
    )  # [B, P, C, K]
    x = w.op("Unsqueeze", pixels, w.constant([3]))  # [B, P, C, 1]
    if channels == 3:
        means = _centres(w, means, w.op("Tanh", coefficients[0]), x)
    each = _channel_log_mass(w, x, means, w.op("Max", log_scales, w.constant(LOWEST)))
    joint = w.op("Add", w.op("ReduceSum", each, w.constant([2]), keepdims=0), w.op("LogSoftmax", logits, axis=2))
    most = w.op("ReduceMax", joint, w.constant([2]), keepdims=1)  # [B, P, 1]
    total = w.op("ReduceSum", w.op("Exp", w.op("Sub", joint, most)), w.constant([2]), keepdims=0)
    return w.op("Add", w.op("Squeeze", most, w.constant([2])), w.op("Log", total))


def _kinds(mixture: LogisticMixture) -> int:
    """Means, log-scales, and for three channels coefficients."""
    return 3 if mixture.channels == 3 else 2


def _each(w: GraphWriter, value: str, count: int, axis: int) -> list[str]:
    """The slices along an axis, each of size 1."""
    return w.ops("Split", count, value, w.constant([1] * count), axis=axis)


def _fed_back(w: GraphWriter, value: str, mixture: LogisticMixture) -> str:
    """A drawn channel as the network sees it: clipped, and rounded where the model says so."""
    value = w.op("Clip", value, w.constant(-1.0), w.constant(1.0))
    if not mixture.round:
        return value
    half = w.constant(127.5)
    level = w.op("Round", w.op("Add", w.op("Mul", value, half), half))
    return w.op("Div", w.op("Sub", level, half), half)


def _centres(w: GraphWriter, means: str, coefficients: str, x: str) -> str:
    """Means once earlier channels are known, `[B, P, C, K]`."""
    moves, known, centres = _each(w, coefficients, 3, 2), _each(w, x, 3, 2), []
    for channel, centre in enumerate(_each(w, means, 3, 2)):
        for number, other in earlier(channel):
            centre = w.op("Add", centre, w.op("Mul", moves[number], known[other]))
        centres.append(centre)
    return w.op("Concat", *centres, axis=2)


def _channel_log_mass(w: GraphWriter, x: str, centres: str, log_scales: str) -> str:
    """Natural-log probability of each channel's bin under each component, `[B, P, C, K]`."""
    narrow = w.op("Exp", w.op("Neg", log_scales))
    middle = w.op("Mul", narrow, w.op("Sub", x, centres))
    half = w.op("Mul", narrow, w.constant(HALF_BIN))
    below = w.op("Neg", softplus(w, w.op("Neg", w.op("Add", middle, half))))
    above = w.op("Neg", softplus(w, w.op("Sub", middle, half)))
    t = w.op("Tanh", half)
    share = w.op("Log", w.op("Div", w.op("Add", t, t), w.op("Add", t, w.constant(1.0))))
    inside = w.op("Add", w.op("Add", below, above), share)
    double = w.op("Mul", softplus(w, middle), w.constant(2.0))
    density = w.op("Sub", w.op("Sub", w.op("Sub", middle, log_scales), double), w.constant(LOG_BIN))
    inner = w.op("Where", w.op("Greater", inside, w.constant(LOG_SMALL)), inside, density)
    inner = w.op("Where", w.op("Greater", x, w.constant(EDGE)), above, inner)
    return w.op("Where", w.op("Less", x, w.constant(-EDGE)), below, inner)
