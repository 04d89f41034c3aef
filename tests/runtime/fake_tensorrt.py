"""In the place of `tensorrt` and `tensorrt_rtx_bindings`: engines that are ONNX files, run by ONNX Runtime on memory of
a `FakeCuda`. It is as strict as the documentation: shapes, then addresses; states at one address; a run before a
capture."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from pixelsnail_infer.runtime.backends.tensorrt_package import Package

from .fake_cuda import FakeCuda

MAGIC = b"fake engine\n"
_KINDS = {onnx.TensorProto.FLOAT: "FLOAT", onnx.TensorProto.INT64: "INT64", onnx.TensorProto.BOOL: "BOOL"}
_NUMPY = {"FLOAT": np.float32, "INT64": np.int64, "BOOL": np.bool_}


class Log:
    Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING"])


class Tensor:
    """A tensor's name, type and shape, with -1 for the batch."""

    def __init__(self, info: onnx.ValueInfoProto) -> None:
        held = info.type.tensor_type
        self.name, self.kind = info.name, _KINDS[held.elem_type]
        self.shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in held.shape.dim)


class Network:
    """What the parser makes of a model."""

    def __init__(self) -> None:
        self.taken: list[Tensor] = []
        self.given: list[Tensor] = []
        self.layers: list[Any] = []
        self.model = b""
        self.get_input, self.get_output = (lambda i: self.taken[i]), (lambda i: self.given[i])
        self.get_layer = lambda i: self.layers[i]

    num_inputs = property(lambda self: len(self.taken))
    num_outputs = property(lambda self: len(self.given))
    num_layers = property(lambda self: len(self.layers))


class Parser:
    def __init__(self, network: Network, log: Log) -> None:
        self.network, self.num_errors = network, 0

    def parse(self, data: bytes) -> bool:
        graph = onnx.load_model_from_string(data).graph
        self.network.model = data
        self.network.taken, self.network.given = [Tensor(t) for t in graph.input], [Tensor(t) for t in graph.output]
        for node in graph.node:
            name = "KV_CACHE_UPDATE" if node.op_type == "TensorScatter" else "OTHER"
            self.network.layers.append(SimpleNamespace(
                type=SimpleNamespace(name=name), get_input=lambda i, n=node: SimpleNamespace(name=n.input[i]),
                get_output=lambda i, n=node: SimpleNamespace(name=n.output[i])))  # fmt: skip
        return True


class Config(SimpleNamespace):
    """Of the builder; `timings` are those that were given, and one more."""

    def __init__(self) -> None:
        super().__init__(flags={"TF32"}, capabilities={}, profiles=[], num_compute_capabilities=0, timings=None)
        self.add_optimization_profile = self.profiles.append
        self.clear_flag, self.set_flag = self.flags.discard, self.flags.add

    def set_compute_capability(self, capability: str, index: int) -> None:
        assert index < self.num_compute_capabilities
        self.capabilities[index] = capability

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(serialize=lambda: data + b"+1")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        self.timings = cache


class Engine:
    """A model over the memory of a fake GPU."""

    def __init__(self, fake: FakeTensorRt, model: bytes) -> None:
        self.fake, network = fake, Network()
        Parser(network, Log()).parse(model)
        self.tensors = {tensor.name: tensor for tensor in (*network.taken, *network.given)}
        self.taken, self.given = [t.name for t in network.taken], [t.name for t in network.given]
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.num_io_tensors = len(self.tensors)
        self.get_tensor_name = list(self.tensors).__getitem__
        self.get_tensor_mode = lambda name: "in" if name in self.taken else "out"
        self.get_tensor_dtype = lambda name: SimpleNamespace(name=self.tensors[name].kind)
        self.get_tensor_location = lambda name: "device"
        self.get_tensor_shape = lambda name: self.tensors[name].shape
        self.create_runtime_config = lambda: SimpleNamespace(
            set_execution_context_allocation_strategy=lambda how: None, dynamic_shapes_kernel_specialization_strategy=0
        )

    def get_aliased_input_tensor(self, name: str) -> str | None:
        state = name.removesuffix(".out")
        return state if self.fake.aliases and state != name and state in self.taken else None

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [tuple(b if d == -1 else d for d in self.tensors[name].shape) for b in (1, 4, self.fake.largest)]

    def create_execution_context(self, config: Any) -> Context:
        return Context(self, config)


class Context:
    """One set of shapes and addresses. Nothing is computed before the stream comes to it."""

    def __init__(self, engine: Engine, config: Any) -> None:
        self.engine, self.config = engine, config
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.scratch, self.runs = 0, 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        wanted = self.engine.tensors[name].shape
        fits = len(shape) == len(wanted) and all(
            1 <= n <= self.engine.fake.largest if w == -1 else n == w for n, w in zip(shape, wanted, strict=True)
        )
        if fits:
            self.shapes[name] = shape
        return fits

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0

    def infer_shapes(self) -> list[str]:
        return [name for name in self.engine.taken if name not in self.shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        (batch,) = {shape[0] for name, shape in self.shapes.items() if -1 in self.engine.tensors[name].shape}
        return tuple(batch if d == -1 else d for d in self.engine.tensors[name].shape)

    def update_device_memory_size_for_shapes(self) -> int:
        return 1000

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= 1000
        self.scratch = address

    def is_stream_capturable(self, stream: int) -> bool:
        eager = self.config.dynamic_shapes_kernel_specialization_strategy == "eager"
        return self.runs > 0 and (eager or not self.engine.fake.rtx)

    def execute_async_v3(self, stream: int) -> bool:
        cuda, tensors = self.engine.fake.cuda, self.engine.tensors
        if set(self.addresses) != set(tensors) or not self.scratch or self.engine.fake.broken:
            self.engine.fake.log.log(Log.Severity.ERROR, "the run is broken")
            return False
        if cuda.recording is not None and not self.runs:
            return False
        for name in self.engine.given:
            if (state := self.engine.get_aliased_input_tensor(name)) is not None:
                assert self.addresses[name] == self.addresses[state], "a state is not in place"
        self.runs += 1
        addresses = dict(self.addresses)  # those of now are in the graph

        def view(name: str) -> np.ndarray:
            shape, kind = self.get_tensor_shape(name), _NUMPY[tensors[name].kind]
            size = int(np.prod(shape)) * np.dtype(kind).itemsize
            return cuda.held(addresses[name], size, "device").view(kind).reshape(shape)

        def run() -> None:
            cuda.held(self.scratch, 1000, "device")
            results = self.engine.session.run(self.engine.given, {name: view(name) for name in self.engine.taken})
            for name, result in zip(self.engine.given, results, strict=True):
                view(name)[...] = result

        cuda.enqueue(run, stream)
        return True


class FakeTensorRt:
    """The module; `configs` are the builder's, one for each engine that was built, on the GPUs `built_on`."""

    ILogger, OnnxParser = Log, Parser
    IKVCacheUpdateLayer = object
    BuilderFlag = SimpleNamespace(TF32="TF32", REQUIRE_USER_ALLOCATION="REQUIRE_USER_ALLOCATION")
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    ComputeCapability = SimpleNamespace(SM80="8.0", SM89="8.9", SM120="12.0")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    TensorIOMode, TensorLocation = SimpleNamespace(INPUT="in"), SimpleNamespace(DEVICE="device")

    def __init__(self, cuda: FakeCuda, largest: int = 256) -> None:
        self.cuda, self.largest = cuda, largest
        self.aliases, self.broken, self.rtx, self.log = True, False, True, Log()
        self.configs: list[Config] = []
        self.built_on: list[int] = []

    def Builder(self, log: Log) -> Any:
        def build(network: Network, config: Config) -> bytes | None:
            self.configs.append(config)
            self.built_on.append(self.cuda.current)
            return MAGIC + network.model if network.model else None

        return SimpleNamespace(
            create_network=lambda flags: Network(), create_builder_config=Config, build_serialized_network=build,
            create_optimization_profile=lambda: Profile({}))  # fmt: skip

    def Runtime(self, log: Log) -> Any:
        self.log = log

        def deserialize(plan: bytes) -> Engine | None:
            if not plan.startswith(MAGIC):
                log.log(Log.Severity.ERROR, "no engine")
                return None
            return Engine(self, plan.removeprefix(MAGIC))

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def package(self, name: str = "tensorrt_rtx", version: str = "1.7") -> Package:
        self.rtx = name == "tensorrt_rtx"
        return Package(name, version, self)


class Profile(dict[str, Any]):
    """The three shapes of each tensor."""

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self[name] = shapes


