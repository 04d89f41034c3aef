"""Writing decided graphs: a format in each set of files."""
