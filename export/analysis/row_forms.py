"""In which form the row graph computes each of its products: tap by tap, or in Winograd's form along the row."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.analysis.winograd import Winograd, winograd
from pixelsnail_infer.export.fields import Node, Offset

__all__ = ["DEFAULT_ROW_FORM", "PLAIN", "ROW_FORMS", "WINOGRAD", "RowProduct", "layers_in_winograd", "row_products",
           "saving", "tap_groups"]

DEFAULT_ROW_FORM, PLAIN, WINOGRAD = "auto", "plain", "winograd"
ROW_FORMS = (DEFAULT_ROW_FORM, PLAIN, WINOGRAD)
"""Winograd's form where it pays at every batch size; nowhere; wherever there is one."""
PER_NUMBER = 200  # multiplications that must be saved for each number that the transforms move
PER_WEIGHT = 12  # and for each transformed weight, which a batch of 1 reads from memory: they are more than the taps


@dataclass(frozen=True, slots=True)
class RowProduct:
    """Taps of a linear node that the row graph applies at once: all of its own row, or all of rows above. `width`: the
    columns of the node, which are cells of its stride."""

    node: Node
    offsets: tuple[Offset, ...]
    width: int

    @property
    def every(self) -> int:
        """Pixels from one column to the next."""
        return self.node.stride[1]

    @property
    def rows(self) -> list[int]:
        """The rows that it reads, relative to its own."""
        return sorted({dy for dy, _ in self.offsets})

    @property
    def first(self) -> int:
        """The leftmost column that it reads, relative to its own."""
        return min(dx for _, dx in self.offsets) // self.every

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers that it multiplies at a column, and results."""
        given, taken = self.node.attrs["taps"][self.offsets[0]].shape
        return len(self.offsets) * int(taken), int(given)

    @property
    def multiplications(self) -> int:
        """In one row of one image, tap by tap."""
        taken, given = self.sizes
        return self.width * taken * given

    def form(self, choice: str) -> Winograd | None:
        """Winograd's form where the `choice`, of `ROW_FORMS`, takes it."""
        found = None if choice == PLAIN else self._winograd()
        return found if found is None or choice == WINOGRAD or self._pays(found) else None

    def multiplications_in(self, form: Winograd) -> int:
        """The same in this form, transforms left out."""
        taken, given = self.transformed(form)
        return len(form.starts) * form.points * taken * given

    def transformed(self, form: Winograd) -> tuple[int, int]:
        """Numbers that each product of a tile multiplies, and results."""
        taken = int(self.node.attrs["taps"][self.offsets[0]].shape[1])
        return len(self.rows) * taken, self.sizes[1]

    def weights(self, form: Winograd) -> torch.Tensor:
        """The transformed taps, float64 `[points, rows * in, out]`."""
        taps, none = self.node.attrs["taps"], torch.zeros_like(self.node.attrs["taps"][self.offsets[0]])
        columns = [(self.first + k) * self.every for k in range(form.taps)]
        lines = [[taps.get((dy, dx), none).double().T for dy in self.rows] for dx in columns]
        dense = torch.stack([torch.cat(line) for line in lines])  # [taps, rows * in, out]
        return torch.einsum("pt,tio->pio", form.of_weights, dense)

    def _winograd(self) -> Winograd | None:
        node, source = self.node, self.node.inputs[0].source
        if not source.pixel or len(source.channels) != 1 or not source.dtype.is_floating_point:
            return None
        if node.op != "linear" or node.stride != source.stride:  # of a finer source columns are left out
            return None
        return winograd(max(dx for _, dx in self.offsets) // self.every - self.first + 1, self.width)

    def _pays(self, form: Winograd) -> bool:
        saved, (taken, given) = self.multiplications - self.multiplications_in(form), self.transformed(form)
        moved = len(form.starts) * form.points * (taken + given)
        return saved >= PER_NUMBER * moved and saved >= PER_WEIGHT * form.points * taken * given


def tap_groups(node: Node) -> list[list[Offset]]:
    """The taps of a linear or lookup node that the row graph applies at once."""
    taps = node.attrs["taps"]
    groups = [[offset for offset in taps if offset[0] == 0], [offset for offset in taps if offset[0] < 0]]
    return [group for group in groups if group]


def row_products(program: Program) -> list[RowProduct]:
    """All of the row graph that multiply what depends on pixels."""
    return [RowProduct(node, tuple(group), program.shape[1] // node.stride[1]) for node in program.of(Stage.ROW)
            if node.op == "linear" and node.frame is not None and node.inputs[0].source.pixel
            for group in tap_groups(node)]


def saving(program: Program, choice: str) -> str | None:
    """What Winograd's form saves, in one line; None where the `choice` takes it nowhere."""
    products = row_products(program)
    taken = [(one, form) for one in products if (form := one.form(choice)) is not None]
    if not taken:
        return None
    before = sum(one.multiplications for one in products)
    saved = sum(one.multiplications - one.multiplications_in(form) for one, form in taken)
    return (f"Winograd's form along the row in {len(taken)} of {len(products)} products of the row graph: "
            f"{before:,} multiplications a row become {before - saved:,}.")


def layers_in_winograd(program: Program, choice: str) -> list[str]:
    """The layers that take the form, a line for each form and size."""
    found: dict[str, list[str]] = {}
    for one in row_products(program):
        if (form := one.form(choice)) is not None:
            taken, given = one.sizes
            found.setdefault(f"{form} for {taken} x {given}", []).append(one.node.where.module)
    return [f"{what}: {', '.join(dict.fromkeys(layers))}" for what, layers in found.items()]
