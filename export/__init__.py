"""The exporter: traces a trained model, derives its staged form, writes the graphs and verifies them."""
