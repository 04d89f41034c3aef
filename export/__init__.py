"""The exporter: traces a trained model, derives its staged form, writes the graphs and verifies them."""

from pixelsnail_infer.export.codecs.exporting import export_codec
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.from_checkpoint import export_checkpoint, verify_export
from pixelsnail_infer.plan import Plan

__all__ = ["Exported", "Plan", "export_checkpoint", "export_codec", "export_model", "verify_export"]
