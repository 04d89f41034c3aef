"""Writing the graphs."""
