"""`python -m pixelsnail_infer.export`: the command `export-model`."""

from __future__ import annotations

import sys

from pixelsnail_infer.export.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m pixelsnail_infer.export"))
