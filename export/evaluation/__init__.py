"""What every node computes, in plain PyTorch; constants are folded with it, and the interpreter runs on it."""
