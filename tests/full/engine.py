"""Build a TensorRT engine of one ONNX file as the product does: `python engine.py FILE.onnx SM...`.

A process of its own, since a fault in the builder ends the process. Prints JSON: {"size", "layers"} or {"error"}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.runtime.backends.tensorrt_builder import build_engine
from pixelsnail_infer.runtime.backends.tensorrt_package import find_package


def main() -> None:
    try:
        built = build_engine(find_package(), Path(sys.argv[1]).read_bytes(), Path(sys.argv[1]).name, sys.argv[2:])
        print(json.dumps({"size": len(built.plan), "layers": built.layers}))
    except PixelsnailError as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    main()
