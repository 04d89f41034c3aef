"""Write the noise of `pixelsnail-infer sample --n N --seed SEED` to a file: `python noise.py ARCHIVE NOISE.npy`."""

from __future__ import annotations

import argparse

import numpy as np

from pixelsnail_infer.noise import gumbel_row, image_keys
from pixelsnail_infer.runtime.files.archive_files import ArchiveFiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("noise", help="float32 [n, H, W, L]")
    parser.add_argument("--n", type=int, default=1, help="images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    manifest = ArchiveFiles(args.archive).manifest
    keys, levels = image_keys(args.seed, args.n), manifest.levels
    np.save(args.noise, np.stack([gumbel_row(keys, i, manifest.width, levels) for i in range(manifest.height)], axis=1))


if __name__ == "__main__":
    main()
