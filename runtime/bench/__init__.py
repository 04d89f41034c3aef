"""How fast a model runs on this machine, and how far that is from what its products and its memory allow."""
