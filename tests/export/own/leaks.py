"""Exporting the classes of `user/leaky.py`, and which of its lines is to blame."""

from __future__ import annotations

from pathlib import Path

import torch

from pixelsnail_infer.export.cli import main
from pixelsnail_infer.export.source.user_model import user_model

LEAKY = Path(__file__).parent / "user" / "leaky.py"


def blamed(name: str) -> str:
    """`leaky.py:LINE` of the line that is marked with the class's name."""
    (line,) = [k for k, text in enumerate(LEAKY.read_text().splitlines(), 1) if text.endswith(f"# <- {name}")]
    return f"leaky.py:{line}"


def export(name: str, folder: Path, *options: str, shape: str = "4x5", arguments: str = "{}") -> int:
    """Export a class with random weights into `folder / "out"`."""
    torch.manual_seed(0)
    rows, columns = map(int, shape.split("x"))
    with user_model(f"{LEAKY}:{name}", {"shape": [rows, columns]}) as module:
        torch.save(module.state_dict(), folder / "net.pt")
    (folder / "out").mkdir(exist_ok=True)
    arguments = f'{{"shape": [{rows}, {columns}]}}' if arguments == "{}" else arguments
    return main(["-q", str(folder / "net.pt"), str(folder / "out" / "out.onnx"), "--model", f"{LEAKY}:{name}",
                 "--model-args", arguments, "--shape", shape, "--levels", "5", *options])
