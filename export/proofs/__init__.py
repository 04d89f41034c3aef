"""That the graphs are the model: the probe, the reference, and what is measured."""
