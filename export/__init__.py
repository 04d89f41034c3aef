"""The exporter: traces a trained model, derives its staged form, writes the graphs and verifies them."""

from pixelsnail_infer.export.codecs.exporting import ExportedCodec, export_codec
from pixelsnail_infer.export.exporting import Exported, export_model

__all__ = ["Exported", "ExportedCodec", "export_codec", "export_model"]
