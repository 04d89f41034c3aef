"""Denoisers: one reverse step and what it is told of the time, written by PyTorch's ONNX exporter, and proven."""
