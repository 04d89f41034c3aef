"""Many requests at once: one thread draws a batch that images join and leave at every row."""
