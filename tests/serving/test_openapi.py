"""The description of the interface is well formed, and says what the service does: paths, statuses, bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from pixelsnail_infer.runtime import Engine, Sampler
from pixelsnail_infer.runtime.serving.access import OPEN
from pixelsnail_infer.runtime.serving.image_routes import image_routes
from pixelsnail_infer.runtime.serving.inference_routes import inference_routes
from pixelsnail_infer.runtime.serving.openapi import openapi
from pixelsnail_infer.runtime.serving.order import FIELDS
from pixelsnail_infer.runtime.serving.problem import MEDIA_TYPE
from pixelsnail_infer.runtime.serving.served import ServedPrior
from pixelsnail_infer.runtime.serving.service import Service
from pixelsnail_infer.runtime.serving.settings import Settings
from pixelsnail_infer.runtime.serving.state_routes import state_routes

from .running import Answer, Running, running

GOOD = {"model": "digits", "label": 1, "format": "json"}
KEYED = Settings(keys=(b"\1" * 32,))
BEYOND = {"minimum": -1, "exclusiveMinimum": 0, "maximum": 1}  # what to add to a bound for a value that is refused


@pytest.fixture(scope="module")
def document(live: Running) -> dict[str, Any]:
    found: dict[str, Any] = live.ask("GET", "/openapi.json").json
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, told in document["paths"].items():
        yield from ((path, method, said) for method, said in told.items() if method != "parameters")


def simple(schema: dict[str, Any]) -> dict[str, Any]:
    """Of a field's schema the one of its single value."""
    first: dict[str, Any] = schema["anyOf"][0]
    return first


def fields(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = document["components"]["schemas"]["Request"]["properties"]
    return found


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from nodes(part)


@pytest.mark.parametrize("settings", [Settings(), KEYED], ids=["open", "keyed"])
def test_it_is_well_formed(settings: Settings) -> None:
    document = openapi(settings)
    assert set(document) - {"security"} == {"openapi", "info", "paths", "components"}
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"]) and {"title", "version"} <= set(document["info"])
    for node in nodes(document):
        if "$ref" in node:
            *_, section, name = node["$ref"].split("/")
            assert node["$ref"] == f"#/components/{section}/{name}" and name in document["components"][section]
        if "minimum" in node and "maximum" in node:
            assert node["minimum"] < node["maximum"]
    for path, told in document["paths"].items():
        parts = told.get("parameters", [])
        assert [part["name"] for part in parts] == re.findall(r"{(\w+)}", path)
        assert all(part["in"] == "path" and part["required"] and part["schema"] for part in parts)
    for path, _, said in operations(document):
        assert said["summary"] and "200" in said["responses"], path
        assert all(re.fullmatch(r"[2-5]\d\d", code) and answer["description"]
                   for code, answer in said["responses"].items())  # fmt: skip
        assert all(MEDIA_TYPE in answer["content"] for code, answer in said["responses"].items() if code != "200")
    schemes = document["components"].get("securitySchemes", {})
    assert all(set(one) <= set(schemes) for one in document.get("security", []))


def test_it_has_every_route_of_programs(document: dict[str, Any]) -> None:
    service = Service(Settings())
    routes = [*image_routes(service), *inference_routes(service), *state_routes(service)]
    there = {(route.path, method.lower()) for route in routes for method in (route.methods or ()) if method != "HEAD"}
    assert {(path, method) for path, method, _ in operations(document)} == there


def test_keys_are_asked_for_where_they_are_needed(digits: Sampler) -> None:
    models = {"digits": ServedPrior("digits", ("d",), Engine(digits))}
    with running(lambda: models, keys=KEYED.keys, hosts=("127.0.0.1",)) as made:
        document = made.ask("GET", "/openapi.json").json
        assert document["security"] == [{"key": []}]
        for path, method, said in operations(document):
            assert (said.get("security") == []) == (path in OPEN), path
            for status, headers in ((401, {}), (403, {"host": "evil.example"})):
                found = made.ask(method.upper(), path.format(model="digits", version=1), None, headers).status
                assert (found == status) == (str(status) in said["responses"]), (path, status, found)


def statuses(live: Running) -> Iterator[tuple[str, Answer]]:
    """Answers to all sorts of requests, each with the path it belongs to."""
    json_ = {"content-type": "application/json"}
    for body in ({}, b"{", {"model": "nix"}, {"n": 0}, b" " * (1 << 16) + b"{}", GOOD):
        yield "/v1/images", live.ask("POST", "/v1/images", body, json_)
    yield "/v1/images", live.ask("POST", "/v1/images", b"{}")
    picture = {"model": "digits", "label": 1}
    yield "/v1/images", live.ask("POST", "/v1/images", picture, {**json_, "accept": "image/gif"})
    for name, version in (("digits", ""), ("nix", ""), ("digits", "/versions/1"), ("digits", "/versions/2")):
        path = "/v2/models/{model}" + ("/versions/{version}" if version else "")
        real = f"/v2/models/{name}{version}"
        yield path, live.ask("GET", real)
        yield f"{path}/ready", live.ask("GET", f"{real}/ready")
        for body in ({}, b"{", {"inputs": []}, b" " * (1 << 16) + b"{}"):
            yield f"{path}/infer", live.ask("POST", f"{real}/infer", body)
        yield f"{path}/infer", live.ask("POST", f"{real}/infer", {}, {"content-encoding": "gzip"})
    live.service.phase = "draining"
    try:
        for path in ("/healthz", "/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready"):
            yield path, live.ask("GET", path.format(model="digits"))
    finally:
        live.service.phase = "ready"


def test_no_status_is_a_surprise(live: Running, document: dict[str, Any]) -> None:
    """What happens is described; and of what this test can make happen, nothing is described that does not."""
    happened: dict[str, set[str]] = {}
    for path, answer in statuses(live):
        happened.setdefault(path, set()).add(str(answer.status))
    for path, found in happened.items():
        (said,) = [said for told, _, said in operations(document) if told == path]
        assert found <= set(said["responses"]), path
    images, infer = (set(document["paths"][path]["post"]["responses"])
                     for path in ("/v1/images", "/v2/models/{model}/infer"))  # fmt: skip
    unmade = {"403", "408", "429", "500", "503"}  # of locks, limits and failures, which other tests make happen
    assert images - happened["/v1/images"] == unmade | {"504"}
    assert infer - happened["/v2/models/{model}/infer"] - {"200"} == unmade
    for path in ("/healthz", "/v2/health/ready", "/v2/models/{model}/ready"):
        assert "503" in happened[path]


def test_bounds_are_those_that_are_checked(live: Running, document: dict[str, Any]) -> None:
    tried = []
    for name, schema in fields(document).items():
        for bound, step in BEYOND.items():
            if (limit := simple(schema).get(bound)) is not None:
                tried.append((name, bound))
                refused = live.images({**GOOD, name: limit + step})
                assert (refused.status, refused.field) == (422, name), (bound, refused.body)
                if bound != "exclusiveMinimum":
                    assert live.images({**GOOD, name: limit}).status == 200, (name, bound)
    most = {"n", "seed", "top_p", "deadline", "columns", "scale"}
    assert {name for name, bound in tried if bound == "maximum"} == most
    assert {name for name, bound in tried if bound != "maximum"} == most | {"label", "temperature", "top_k"}


def test_types_defaults_and_null_are_those_of_the_service(live: Running, document: dict[str, Any]) -> None:
    assert tuple(fields(document)) == FIELDS
    wrong = {"string": 1, "integer": 1.5, "number": "1", "boolean": 1, "object": 3}
    drawn = live.images(GOOD).body
    for name, schema in fields(document).items():
        assert {"type": "null"} in schema["anyOf"] and schema["description"]
        kind = simple(schema).get("type")
        if kind is not None:
            refused = live.images({**GOOD, name: wrong[kind]})
            assert (refused.status, refused.field) == (422, name), refused.body
        if name not in GOOD:
            assert live.images({**GOOD, name: None}).body == drawn, name
        if "default" in schema:
            assert live.images({**GOOD, name: schema["default"]}).body == drawn, name
    forms = simple(fields(document)["format"])["enum"]
    kinds = [live.images({**GOOD, "format": form}).headers["content-type"] for form in forms]
    said = document["paths"]["/v1/images"]["post"]["responses"]["200"]["content"]
    assert kinds == [kind for kind in said if kind != "text/event-stream"]
