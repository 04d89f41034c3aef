"""Stand-ins for the harmless objects that training code leaves in a checkpoint beside the weights.

A pickle names classes and functions, to be imported and called. None of those below is: the unpickler finds a stand-in
under its name, which takes any arguments, keeps nothing and does nothing. Containers become plain dicts and lists, and
NumPy's scalars plain numbers, because a model's arguments may be among them. So no argument that a hostile file gives
can reach code of `datetime`, `pathlib`, NumPy or anybody else.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Callable

__all__ = ["STAND_INS", "Inert"]


class Inert:
    """Stands where a checkpoint has an object that no network needs; holds nothing and does nothing."""

    __slots__ = ()

    def __new__(cls, *_: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Without it the unpickler would set what the file says."""


class NumpyType(Inert):
    """A NumPy data type: its code, such as "i8", and nothing else."""

    __slots__ = ("code",)

    def __new__(cls, code: object = None, *_: object) -> NumpyType:
        self = object.__new__(cls)
        self.code = code if isinstance(code, str) else ""
        return self

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|"):
            self.code = ""  # the numbers are not stored as here


NUMBERS = {"b1": "<?", "i1": "<b", "i2": "<h", "i4": "<i", "i8": "<q", "u1": "<B", "u2": "<H", "u4": "<I", "u8": "<Q",
           "f2": "<e", "f4": "<f", "f8": "<d"}


def _number(kind: object = None, raw: object = None, *_: object) -> object:
    """In the place of NumPy's `scalar(dtype, bytes)`."""
    form = NUMBERS.get(kind.code) if isinstance(kind, NumpyType) else None
    if form is None or not isinstance(raw, bytes) or len(raw) != struct.calcsize(form):
        return Inert()
    return struct.unpack(form, raw)[0]


class Dict:
    """In the place of dict's relatives: a plain dict, into which the file puts its entries."""

    def __new__(cls, *_: object) -> dict[object, object]:  # type: ignore[misc]
        return {}


class List:
    """In the place of list's relatives."""

    def __new__(cls, *_: object) -> list[object]:  # type: ignore[misc]
        return []


def _names(module: str, names: str) -> list[str]:
    return [f"{module}.{name}" for name in names.split()]


PATHS = "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"
INERT = [
    *_names("datetime", "datetime date time timedelta timezone"),
    *_names("pathlib", PATHS),
    *_names("pathlib._local", PATHS),  # as Python 3.13 names them
    *_names("builtins", "int float str bool bytes list tuple dict frozenset object range slice"),  # also as values
    *_names("decimal", "Decimal"),
    *_names("fractions", "Fraction"),
    *_names("typing", "Any"),
    *_names("uuid", "UUID"),
    *_names("torch.torch_version", "TorchVersion"),
    *_names("numpy", "ndarray bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64"),
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    *_names("numpy.random._pickle", "__randomstate_ctor __generator_ctor __bit_generator_ctor"),
    *_names("numpy.random._mt19937", "MT19937"),
    *_names("numpy.random._pcg64", "PCG64"),
    *_names("omegaconf.dictconfig", "DictConfig"),
    *_names("omegaconf.listconfig", "ListConfig"),
    *_names("omegaconf.base", "ContainerMetadata Metadata"),
    *_names("omegaconf.nodes", "AnyNode StringNode IntegerNode FloatNode BooleanNode EnumNode PathNode"),
    # Older Lightning names the classes of its callbacks.
    *(f"{package}.callbacks.{name}" for package in ("pytorch_lightning", "lightning.pytorch") for name in (
        "model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping", "lr_monitor.LearningRateMonitor",
        "timer.Timer", "stochastic_weight_avg.StochasticWeightAveraging", "progress.tqdm_progress.TQDMProgressBar")),
]
DICTS = ["collections.defaultdict", "pytorch_lightning.utilities.parsing.AttributeDict",
         "lightning_fabric.utilities.data.AttributeDict", "lightning.fabric.utilities.data.AttributeDict"]

# One class for each name, so that a refusal can say what was found.
STAND_INS: list[tuple[Callable[..., object], str]] = [
    *((type(name.rpartition(".")[2], (Inert,), {"__slots__": (), "__module__": name.rpartition(".")[0]}), name)
      for name in INERT),
    *((Dict, name) for name in DICTS),
    (List, "collections.deque"),
    (NumpyType, "numpy.dtype"),
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    (argparse.Namespace, "types.SimpleNamespace"),
]
