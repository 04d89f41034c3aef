"""Random networks. Layers and leaks that stand in files of their own are gathered here."""

from . import writes

__all__ = ["writes"]
