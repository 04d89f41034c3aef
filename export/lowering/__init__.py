"""From recorded operations to the normal form: values per position, and edges that say where they read."""
