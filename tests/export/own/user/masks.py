"""Masks, made once for each size: a file beside `net.py`, which imports it as `python net.py` would."""

from functools import lru_cache

import numpy as np
import torch


@lru_cache(maxsize=16)
def earlier(positions):
    """[1, P, P], 1 where the key comes before the query, and [P, 1], 0 for the query that has none before it."""
    before = np.tril(np.ones((positions, positions), np.float32), k=-1)
    some = np.ones((positions, 1), np.float32)
    some[0] = 0
    return torch.from_numpy(before)[None], torch.from_numpy(some)
