"""Write the small TensorFlow checkpoints under `data/`, with the original's own code and TensorFlow's own Saver.

    python write_tf_bundle.py CHECKOUT ARCH OUT [--filters 4 …]

CHECKOUT is a copy of neocxi/pixelsnail-public or, for the architecture `model`, of openai/pixel-cnn, neither of which
is part of this project; TensorFlow (2.12 to 2.21) and tf_slim must be installed. No test runs this. The committed files
were made with TensorFlow 2.21 and

    python write_tf_bundle.py CHECKOUT h12_noup_smallkey data/h12.ckpt --shape 4 6 --filters 2
    python write_tf_bundle.py CHECKOUT h6_shift data/h6.ckpt --shape 4 4 --nonlinearity concat_elu --h 3
    python write_tf_bundle.py CHECKOUT model data/cpp.ckpt --shape 8 12 --filters 2 --nonlinearity concat_elu
    python write_tf_bundle.py CHECKOUT model data/cpp1.ckpt --shape 8 8 --filters 2 --nonlinearity relu --h 3 --single

The last one is in TensorFlow's first format, a single file, as released ones of 2016 are.

As in the original's training script: the model under the template 'model', once for initialisation and once to run, the
moving averages of all trainable variables, the optimizer (of the first two variables only, for the size) and a Saver of
all variables. Each variable gets the values that `known_value` derives from its name. Beside the bundle, OUT.npz has an
input and what the original's network makes of it with the averages (`ema`) and with the bare variables (`raw`).

h6_shift cannot run as published (an argument that its attention lacks): the argument is dropped, and its convolution is
used in the plain form, not in the one that saves memory by a nested function.
"""

from __future__ import annotations

import argparse
import sys
import types
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def known_value(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The value that this script gives to a variable."""
    values = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    parts = name.split("/")
    return np.float32(0.5) + np.float32(0.1) * values if "g" in parts else np.float32(0.3) * values


def public_code(checkout: Path) -> tuple[Any, Any, Any]:
    """TensorFlow's first interface, and the original's modules `nn` and `model` on top of it."""
    import tensorflow.compat.v1 as tf
    import tf_slim
    from tensorflow.python.ops import variables

    tf.disable_v2_behavior()
    # The original takes the same out of an older TensorFlow: its copies of copies of initial values grow exponentially.
    variables._try_guard_against_uninitialized_dependencies = lambda name, value: value
    folders = ["tensorflow.contrib", "tensorflow.contrib.framework", "tensorflow.contrib.framework.python"]
    for name in folders:
        sys.modules[name] = types.ModuleType(name)
    ops = types.ModuleType("tensorflow.contrib.framework.python.ops")
    ops.arg_scope, ops.add_arg_scope = tf_slim.arg_scope, tf_slim.add_arg_scope  # type: ignore[attr-defined]
    sys.modules[ops.__name__] = ops
    sys.modules["tensorflow"] = tf
    sys.path.insert(0, str(checkout))
    from pixel_cnn_pp import model, nn  # type: ignore[import-not-found]

    if attention := getattr(nn, "causal_attention", None):
        nn.causal_attention = lambda *args, causal_unit=1, **named: attention(*args, **named)
        nn.mem_saving_causal_shift_nin = tf_slim.add_arg_scope(
            lambda *args, **named: nn.causal_shift_nin(*args, **named)
        )
    return tf, nn, model


def write(args: argparse.Namespace) -> None:
    """Build, assign, save, run."""
    tf, nn, models = public_code(args.checkout)
    spec = getattr(models, args.arch + "_spec")
    generator = np.random.RandomState(0)
    image = generator.randint(256, size=(2, *args.shape, 3))
    x = ((image - 127.5) / 127.5).astype(np.float32)
    h = generator.standard_normal((2, args.h)).astype(np.float32) if args.h else None
    options = {
        "nr_resnet": args.resnet,
        "nr_filters": args.filters,
        "nr_logistic_mix": args.mix,
        "resnet_nonlinearity": args.nonlinearity,
        "dropout_p": 0.0,
    }
    network = tf.make_template("model", spec)
    network(tf.constant(x), None if h is None else tf.constant(h), init=True, **options)
    parameters = tf.trainable_variables()
    ema = tf.train.ExponentialMovingAverage(decay=0.9995)
    ema.apply(parameters)
    condition = None if h is None else tf.constant(h)
    raw = network(tf.constant(x), condition, ema=None, **options)
    averaged = network(tf.constant(x), condition, ema=ema, **options)
    loss = nn.discretized_mix_logistic_loss(tf.constant(x), raw)
    first = parameters[:2]
    nn.adam_updates(first, tf.gradients(loss, first), lr=0.001, mom1=0.95, mom2=0.9995)
    version = tf.train.SaverDef.V1 if args.single else tf.train.SaverDef.V2
    saver = tf.train.Saver(write_version=version)
    everything = tf.global_variables()
    values = [tf.placeholder(tf.float32, variable.shape) for variable in everything]
    assignments = [variable.assign(value).op for variable, value in zip(everything, values, strict=True)]
    feed = {
        value: known_value(variable.op.name, tuple(variable.shape.as_list()))
        for variable, value in zip(everything, values, strict=True)
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tf.Session() as session:
        session.run(assignments, feed)
        saver.save(session, str(args.out), write_meta_graph=False, write_state=False)
        results = {"x": x, "raw": session.run(raw), "ema": session.run(averaged)}
        results["loss"] = session.run(loss)
    np.savez_compressed(args.out.with_name(args.out.name + ".npz"), **results, **({} if h is None else {"h": h}))
    print(f"{len(everything)} variables, {sum(variable.shape.num_elements() for variable in everything)} numbers")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a small TensorFlow checkpoint with the original's code.")
    parser.add_argument("checkout", type=Path, help="copy of neocxi/pixelsnail-public or openai/pixel-cnn")
    parser.add_argument("arch", help="h12_noup_smallkey, h8_noup_smallkey, h12_pool2_smallkey, h6_shift or model")
    parser.add_argument("out", type=Path, help="prefix of the bundle, or the single file")
    parser.add_argument("--filters", type=int, default=4)
    parser.add_argument("--resnet", type=int, default=1)
    parser.add_argument("--mix", type=int, default=2)
    parser.add_argument("--nonlinearity", default="elu")
    parser.add_argument("--shape", type=int, nargs=2, default=(4, 4))
    parser.add_argument("--single", action="store_true", help="TensorFlow's first format")
    parser.add_argument("--h", type=int, default=0, help="size of the condition vector")
    write(parser.parse_args())


if __name__ == "__main__":
    main()
