"""Random networks. Layers and leaks that stand in files of their own are gathered here."""

from . import flattened, strided, writes

__all__ = ["flattened", "strided", "writes"]
