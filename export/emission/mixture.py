"""The discretised mixture of logistics in the graph: the draw, and the likelihood of given pixels.

The same formulas as `pixelsnail_infer.distributions.mixture`, which names their sources, as operations of a graph.
"""

from __future__ import annotations

from pixelsnail_infer.distributions import LogisticMixture
from pixelsnail_infer.distributions.mixture import EDGE, HALF_BIN, LOG_BIN, LOG_SMALL, LOWEST, earlier
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Value

__all__ = ["emit_log_probability", "emit_mixture_draw"]


def emit_mixture_draw(g: GraphBuilder, parameters: Value, noise: Value, temperature: Value, mixture: LogisticMixture
                      ) -> Value:
    """Pixels `[B, C]` from `parameters [B, n]`, `noise [B, K + C]` and `temperature [B, 1]`."""
    count, channels = mixture.n_mix, mixture.channels
    kinds = _kinds(mixture)
    logits, rest = g.split(parameters, [count, mixture.parameters - count], 1)
    gumbel, logistic = g.split(noise, [count, channels], 1)
    scores = g.add(logits, g.mul(temperature, gumbel))
    component = g.unsqueeze(g.argmax(scores, 1, keep=True), 2)  # [B, 1, 1]
    index = g.expand(component, [1, channels * kinds, 1])
    rest = g.reshape(rest, [0, channels * kinds, count])
    taken = g.reshape(g.gather_each(rest, index, 2), [0, channels, kinds])
    means, log_scales, *coefficients = (g.squeeze(part, 2) for part in _each(g, taken, kinds, 2))  # [B, C]
    spread = g.mul(g.unary("exp", g.binary("max", log_scales, LOWEST)), logistic)
    values = g.add(means, g.mul(temperature, spread))
    if channels == 1:
        return _fed_back(g, values, mixture)
    moves = _each(g, g.unary("tanh", coefficients[0]), 3, 1)
    drawn: list[Value] = []
    for channel, value in enumerate(_each(g, values, channels, 1)):
        for number, other in earlier(channel):
            value = g.add(value, g.mul(moves[number], drawn[other]))
        drawn.append(_fed_back(g, value, mixture))
    return g.concat(drawn, 1)


def emit_log_probability(g: GraphBuilder, parameters: Value, pixels: Value, mixture: LogisticMixture) -> Value:
    """Natural-log probabilities `[B, P]` of `pixels [B, P, C]` under `parameters [B, P, n]`, summed over channels."""
    count, channels = mixture.n_mix, mixture.channels
    kinds = _kinds(mixture)
    logits, rest = g.split(parameters, [count, mixture.parameters - count], 2)
    rest = g.reshape(rest, [0, 0, channels, kinds, count])
    means, log_scales, *coefficients = (g.squeeze(part, 3) for part in _each(g, rest, kinds, 3))  # [B, P, C, K]
    x = g.unsqueeze(pixels, 3)  # [B, P, C, 1]
    if channels == 3:
        means = _centres(g, means, g.unary("tanh", coefficients[0]), x)
    each = _channel_log_mass(g, x, means, g.binary("max", log_scales, LOWEST))
    joint = g.add(g.reduce("sum", each, 2), g.softmax(logits, 2, log=True))
    most = g.reduce("max", joint, 2, keep=True)  # [B, P, 1]
    total = g.reduce("sum", g.unary("exp", g.sub(joint, most)), 2)
    return g.add(g.squeeze(most, 2), g.unary("log", total))


def _kinds(mixture: LogisticMixture) -> int:
    """Means, log-scales, and for three channels coefficients."""
    return 3 if mixture.channels == 3 else 2


def _each(g: GraphBuilder, value: Value, count: int, axis: int) -> tuple[Value, ...]:
    """The slices along an axis, each of size 1."""
    return g.split(value, [1] * count, axis)


def _fed_back(g: GraphBuilder, value: Value, mixture: LogisticMixture) -> Value:
    """A drawn channel as the network sees it: clipped, and rounded where the model says so."""
    value = g.clip(value, -1.0, 1.0)
    if not mixture.round:
        return value
    level = g.unary("round", g.add(g.mul(value, 127.5), 127.5))
    return g.div(g.sub(level, 127.5), 127.5)


def _centres(g: GraphBuilder, means: Value, coefficients: Value, x: Value) -> Value:
    """Means once earlier channels are known, `[B, P, C, K]`."""
    moves, known, centres = _each(g, coefficients, 3, 2), _each(g, x, 3, 2), []
    for channel, centre in enumerate(_each(g, means, 3, 2)):
        for number, other in earlier(channel):
            centre = g.add(centre, g.mul(moves[number], known[other]))
        centres.append(centre)
    return g.concat(centres, 2)


def _channel_log_mass(g: GraphBuilder, x: Value, centres: Value, log_scales: Value) -> Value:
    """Natural-log probability of each channel's bin under each component, `[B, P, C, K]`."""
    narrow = g.unary("exp", g.unary("neg", log_scales))
    middle = g.mul(narrow, g.sub(x, centres))
    half = g.mul(narrow, HALF_BIN)
    below = g.unary("neg", g.unary("softplus", g.unary("neg", g.add(middle, half))))
    above = g.unary("neg", g.unary("softplus", g.sub(middle, half)))
    t = g.unary("tanh", half)
    share = g.unary("log", g.div(g.add(t, t), g.add(t, 1.0)))
    inside = g.add(g.add(below, above), share)
    double = g.mul(g.unary("softplus", middle), 2.0)
    density = g.sub(g.sub(g.sub(middle, log_scales), double), LOG_BIN)
    inner = g.where(g.binary("gt", inside, LOG_SMALL), inside, density)
    inner = g.where(g.binary("gt", x, EDGE), above, inner)
    return g.where(g.binary("lt", x, -EDGE), below, inner)
