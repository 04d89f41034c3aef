"""What lies on the disk: graph files read and checked, result files written whole."""
