"""That the graphs are the model: the probe, the reference, the interpreter, and what is measured."""
