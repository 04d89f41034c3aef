"""What a client asks for in `POST /v1/images`: read from JSON, checked field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.requests.conditions import resolve_condition
from pixelsnail_infer.runtime.serving.array_field import read_array
from pixelsnail_infer.runtime.serving.fields import SEED, field_schemas
from pixelsnail_infer.runtime.serving.problem import Problem, problem_of
from pixelsnail_infer.runtime.serving.served import Served

__all__ = ["FIELDS", "Order", "find_model", "read_order"]

FIELDS = tuple(field_schemas(1))


@dataclass(frozen=True, slots=True)
class Order:
    """A request for n images. `arguments` are those of `Engine.submit`; the rest says how the answer looks. `labels`
    are the classes of the images, one for each, if they have some."""

    served: Served
    n: int
    seed: int | list[int]
    arguments: dict[str, Any]
    labels: list[int] | None
    format: str | None
    stream: bool | None
    columns: int | None
    scale: int | None

    @property
    def fields(self) -> tuple[str, ...]:
        """The names that messages about this order may begin with."""
        return (*FIELDS, *(spec.name for spec in self.served.conditions))


def read_order(document: dict[str, Any], models: Mapping[str, Served], most_images: int) -> Order:
    """Check a request's JSON object. Raises `Problem`; the values that only the engine can judge, it judges."""
    if unknown := [name for name in document if name not in FIELDS]:
        what = f"{shown(unknown[0])} is no field of a request; the fields are {', '.join(FIELDS)}."
        raise Problem("invalid", what, field=unknown[0][:80])
    given = {name: value for name, value in document.items() if value is not None}
    schemas = field_schemas(most_images)
    served = find_model(given.get("model"), models)
    n = _whole(given.get("n", schemas["n"]["default"]), "n", schemas)
    arguments: dict[str, Any] = {"seed": seed_of(given.get("seed", 0))}
    for name in ("temperature", "top_k", "top_p"):
        if name in given:
            arguments[name] = _setting(given[name], name, served)
    for name in ("known", "known_mask"):
        if name in given:
            if served.is_pipeline:
                raise Problem("invalid", f"{name} is for single priors, but this model is a pipeline.", field=name)
            arguments[name] = read_array(given[name], name, real=name == "known" and served.levels is None)
    if "deadline" in given:
        arguments["deadline"] = _seconds(given["deadline"], schemas["deadline"])
    conditions = _conditions(served, given)
    form, forms = given.get("format"), schemas["format"]["enum"]
    if form not in (None, *forms):
        raise Problem("invalid", f"format is {shown(form)}, expected {', '.join(forms)}.", field="format")
    if not isinstance(stream := given.get("stream"), bool | None):
        raise Problem("invalid", f"stream is {shown(stream)}, expected true or false.", field="stream")
    return Order(
        served=served,
        n=n,
        seed=arguments["seed"],
        arguments=arguments | conditions,
        labels=_labels(served, conditions, n),
        format=form,
        stream=stream,
        columns=_whole(given["columns"], "columns", schemas) if "columns" in given else None,
        scale=_whole(given["scale"], "scale", schemas) if "scale" in given else None,
    )


def find_model(name: Any, models: Mapping[str, Served]) -> Served:
    """The model of that name, or without a name the only one. Raises `Problem`."""
    known = ", ".join(models)
    if name is None:
        if len(models) == 1:
            return next(iter(models.values()))
        raise Problem("invalid", f"model is missing; this service has {known}.", field="model")
    if not isinstance(name, str):
        raise Problem("invalid", f"model is {shown(name)}, expected a name.", field="model")
    if name not in models:
        raise Problem("not-found", f"There is no model {shown(name)}; this service has {known}.", field="model")
    return models[name]


def seed_of(value: Any) -> int | list[int]:
    """A checked seed: one integer, or a list of them."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, int) or not SEED["minimum"] <= one <= SEED["maximum"]:
            what = f"seed is {shown(one)}, expected an integer from 0 to 2^64 - 1, or a list of one for each image."
            raise Problem("invalid", what, field="seed")
    found: int | list[int] = value
    return found


def _setting(value: Any, field: str, served: Served) -> Any:
    """One value, or one for each image; of a pipeline one for each prior, null where it has the default."""
    if not (served.is_pipeline and isinstance(value, list)):
        return read_array(value, field)
    return [None if one is None else read_array(one, field) for one in value]


def _conditions(served: Served, given: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of the fields `conditions` and `label`, by their names in the model."""
    held = given.get("conditions", {})
    if not isinstance(held, dict):
        raise Problem("invalid", f"conditions is {shown(held)}, expected an object of values by name.",
                      field="conditions")  # fmt: skip
    names = [spec.name for spec in served.conditions]
    takes = f"takes {', '.join(names)}" if names else "takes no conditions"
    values = dict(held)
    if "label" in given:
        if served.label is None:
            raise Problem("invalid", f"label was given, but this model {takes}.", field="label")
        if served.label.name in values:
            raise Problem("invalid", "label was given twice, in conditions, too; give it once.", field="label")
        values[served.label.name] = given["label"]
    if unknown := [name for name in values if name not in names]:
        what = f"{shown(unknown[0])} is not a condition of this model, which {takes}."
        raise Problem("invalid", what, field=f"conditions.{unknown[0][:80]}")
    for name in names:
        if values.get(name) is None:
            raise Problem("invalid", f"The condition {name} is missing; this model {takes}.", field=name)
    return {name: read_array(value, name) for name, value in values.items()}


def _labels(served: Served, conditions: Mapping[str, Any], n: int) -> list[int] | None:
    """The checked classes, which the picture is planned by before the engine sees them."""
    if served.label is None:
        return None
    try:
        labels: list[int] = resolve_condition(served.label, conditions[served.label.name], n).tolist()
    except RequestError as error:
        raise problem_of(error, (served.label.name,)) from error
    return labels


def _whole(value: Any, field: str, schemas: Mapping[str, Any]) -> int:
    low, high = schemas[field]["minimum"], schemas[field]["maximum"]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        what = f"{field} is {shown(value)}, expected an integer from {low} to {high}."
        raise Problem("invalid", what, field=field)
    return value


def _seconds(value: Any, schema: Mapping[str, Any]) -> float:
    low, high = schema["exclusiveMinimum"], schema["maximum"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low < value <= high:
        what = f"deadline is {shown(value)}, expected seconds above {low} and at most {high}."
        raise Problem("invalid", what, field="deadline")
    return float(value)
