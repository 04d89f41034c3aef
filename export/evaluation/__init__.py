"""The staged program in plain PyTorch: the reference that the graphs are held against."""
