"""The exporter: traces a trained model, derives its staged form, writes the graphs and verifies them."""

from pixelsnail_infer.export.exporting import Exported, export_model

__all__ = ["Exported", "export_model"]
