"""From an ONNX graph to a TensorRT engine, for the GPU at hand or for GPUs that are named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixelsnail_infer.errors import BackendError, GraphFileError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.backends.tensorrt_package import Package, new_log
from pixelsnail_infer.runtime.files.unconditional import without_conditions
from pixelsnail_infer.runtime.files.whole_axes import with_whole_axes

__all__ = ["LARGEST", "LARGEST_WHOLE", "Built", "build_engine", "build_flags", "check_targets"]

LARGEST = 256
"""The largest batch, where nobody asks for another."""
LARGEST_WHOLE = 16
"""Of graphs that hold whole images: score graphs, decoders, encoders. One attention of the stock top prior has 2^31
numbers for 256 images."""
_TYPICAL = 16  # the batch size that kernels are chosen for


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine; the kinds of the network's layers; and what was learnt about the speed of kernels."""

    plan: bytes
    layers: tuple[str, ...]
    timing: bytes = b""


def check_targets(package: Package, targets: Sequence[str]) -> None:
    """Raise `BackendError` unless the package can build for these compute capabilities, such as "8.9"."""
    if not package.rtx:
        raise BackendError(
            f"{package} builds only for the GPU that it runs on; to build for a GPU that is not here, install "
            "'pixelsnail-infer[tensorrt-rtx]' in an environment without tensorrt."
        )
    for target in targets:
        if target not in package.capabilities:
            raise BackendError(f"{package} has no SM {target}, only {', '.join(package.capabilities)}.")


def build_flags(package: Package) -> tuple[str, ...]:
    """How engines are built, as their key holds it: full float32, and types as the graph says."""
    needed = hasattr(package.trt.BuilderFlag, "REQUIRE_USER_ALLOCATION")
    return ("strongly typed", "no TF32", *(("capturable",) if needed else ()))


def build_engine(
    package: Package, model: bytes, name: str, targets: Sequence[str] = (), largest: int = LARGEST,
    timing: bytes = b"", threads: int | None = None,
) -> Built:  # fmt: skip
    """Compile the ONNX `model` for batches of 1 … `largest`, caches in full: with TensorRT for RTX for the compute
    capabilities `targets`, one engine for all, else for the current GPU. `name` is the file's in messages.

    Raises `GraphFileError` when TensorRT refuses the graph or would not write a state in place. A fault of the builder
    ends the process.
    """
    trt, log = package.trt, new_log(package.trt)
    builder = trt.Builder(log)
    if threads is not None:
        builder.max_threads = threads
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(without_conditions(with_whole_axes(model))):
        raise _refused(package, name, _complaints(parser) or log.reason())
    _check_states(network, package, name)
    config = _config(package, builder, targets)
    config.add_optimization_profile(_profile(builder, network, largest))
    cache = None
    if not package.rtx:  # which has no timings: its kernels are made when the engine runs
        cache = config.create_timing_cache(timing)
        config.set_timing_cache(cache, False)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise _refused(package, name, log.reason())
    layers = tuple(network.get_layer(index).type.name for index in range(network.num_layers))
    return Built(bytes(engine), layers, bytes(cache.serialize()) if cache is not None else b"")


def _strongly_typed(trt: Any) -> int:
    """The flag of networks whose types are the graph's; later versions know no others."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _config(package: Package, builder: Any, targets: Sequence[str]) -> Any:
    trt, config = package.trt, builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if "capturable" in build_flags(package):
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    if package.rtx:
        check_targets(package, targets)
        config.num_compute_capabilities = len(targets)
        for index, target in enumerate(targets):
            config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + target.replace(".", "")), index)
    return config


def _profile(builder: Any, network: Any, largest: int) -> Any:
    """One profile, over the batch: the only axis that is free."""
    profile = builder.create_optimization_profile()
    batches = (1, min(_TYPICAL, largest), largest)
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile.set_shape(tensor.name, *(tuple(b if size == -1 else size for size in shape) for b in batches))
    return profile


def _check_states(network: Any, package: Package, name: str) -> None:
    """Raise unless each state that the graph takes and gives goes through one update in place, and nothing else."""
    taken = {network.get_input(index).name for index in range(network.num_inputs)}
    given = {network.get_output(index).name for index in range(network.num_outputs)}
    written = {state for state in taken if f"{state}.out" in given}
    layers = (network.get_layer(index) for index in range(network.num_layers))
    updates = [(layer.get_input(0).name, layer.get_output(0).name)
               for layer in layers if layer.type.name == "KV_CACHE_UPDATE"]  # fmt: skip
    if missing := sorted(written - {state for state, result in updates if result == f"{state}.out"}):
        raise _refused(package, name, f"it would not write {missing[0]!r} in place")


def _complaints(parser: Any) -> str:
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    return "; ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}" for error in errors)


def _refused(package: Package, name: str, reason: str) -> GraphFileError:
    advice = "run this model with the backend onnxruntime, or export the checkpoint again"
    return GraphFileError(f"{name}: {package} cannot build an engine ({one_line(reason, 600)}); {advice}.")
