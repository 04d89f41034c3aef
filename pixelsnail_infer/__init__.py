"""Fast, exact sampling of PixelSNAIL-like autoregressive image models."""

__version__ = "0.1.0"
__all__ = ["__version__"]
