"""The command `serve`, of a model whose backend fails and stalls at random: python faulty_server.py FILE OPTIONS…"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from faults import Dice, faulty

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.serving import loading


def load(path: str, *, threads: int | None = None, **_: Any) -> Sampler:
    return faulty(Path(path), Dice(0.0005, 0.0005, 1), threads)


if __name__ == "__main__":
    loading.load = load
    raise SystemExit(main(["serve", *sys.argv[1:]]))
