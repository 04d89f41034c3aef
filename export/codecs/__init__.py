"""Decoders and encoders: written by PyTorch's ONNX exporter, cleaned, and proven."""
