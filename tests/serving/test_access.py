"""Who may ask, and what is never said."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime import Engine, Sampler
from pixelsnail_infer.runtime.serving import access
from pixelsnail_infer.runtime.serving.access import OPEN, read_keys
from pixelsnail_infer.runtime.serving.log import JsonLines
from pixelsnail_infer.runtime.serving.served import ServedPrior

from .running import Running, running, until

KEYS = ("a-key-of-sixteen-1", "another-key-of-16")
BODY = {"label": 1, "format": "json"}


@pytest.fixture(scope="module")
def locked(digits: Sampler, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text("\n".join(KEYS) + "\n")
    with running(lambda: {"digits": ServedPrior("digits", ("d",), Engine(digits))}, keys=read_keys(path),
                 hosts=("127.0.0.1", "localhost")) as made:  # fmt: skip
        yield made


@pytest.mark.parametrize("key", KEYS)
def test_a_key_opens(locked: Running, key: str) -> None:
    assert locked.images(BODY, authorization=f"Bearer {key}").status == 200


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", f"Bearer {KEYS[0]}x", f"Bearer {KEYS[0][:-1]}", f"Basic {KEYS[0]}", KEYS[0],
               "Bearer \xe9"],
)  # fmt: skip
def test_anything_else_does_not(locked: Running, header: str) -> None:
    for method, path in (("POST", "/v1/images"), ("GET", "/v1/models"), ("GET", "/metrics"), ("GET", "/v2"),
                         ("GET", "/v1/stats"), ("POST", "/v2/models/digits/infer"), ("GET", "/nix")):  # fmt: skip
        answer = locked.ask(method, path, BODY if method == "POST" else None, {"authorization": header})
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path


def test_health_and_the_page_are_open(locked: Running) -> None:
    assert [path for path in OPEN if locked.ask("GET", path).status != 200] == []


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every known key is compared, whole digests of equal length, even after one was right."""
    seen = []
    monkeypatch.setattr(access.hmac, "compare_digest", lambda a, b: seen.append((a, b)) or a == b)
    known = (b"\1" * 32, access.hashlib.sha256(KEYS[0].encode()).digest(), b"\2" * 32)
    assert access._known(f"Bearer {KEYS[0]}", known)
    assert [b for _, b in seen] == list(known) and all(len(a) == len(b) for a, b in seen)


@pytest.mark.parametrize("text", ["", "\n \n", "short", "has a space in it, and more", "\xe9" * 20, "\0" * 20],
                         ids=range(6))  # fmt: skip
def test_bad_files_of_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(RequestError, match="file of API keys") as refused:
        read_keys(path)
    assert not text.strip() or text not in str(refused.value)
    with pytest.raises(RequestError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_a_file_of_too_many_keys_is_refused_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\n".join(f"key-{number:027}" for number in range(2048)))
    assert len(read_keys(path)) == 2048 and path.stat().st_size == (1 << 16) - 1
    path.write_text(path.read_text() + "\n\n")
    with pytest.raises(RequestError, match="keys, has more than 65536 bytes"):
        read_keys(path)


@pytest.mark.parametrize("host, status", [("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1:99", 200),
                                          ("evil.example", 403), ("", 403), ("localhost.evil.example", 403),
                                          ("[::1", 403)])  # fmt: skip
def test_hosts(locked: Running, host: str, status: int) -> None:
    assert locked.ask("GET", "/healthz", headers={"host": host}).status == status


def test_pages_of_other_sites_may_not_ask(live: Running) -> None:
    own = f"127.0.0.1:{live.port}"
    body = {"model": "digits", **BODY}
    assert live.images(body, origin=f"http://{own}").status == 200
    for origin in ("http://evil.example", f"http://{own}.evil.example", "null", "http://127.0.0.1:1", "http://["):
        assert live.images(body, origin=origin).status == 403, origin


@pytest.mark.parametrize("asked", ["a-1_B.9", "x" * 64])
def test_request_ids_are_kept(live: Running, asked: str) -> None:
    assert live.ask("GET", "/healthz", headers={"x-request-id": asked}).headers["x-request-id"] == asked


@pytest.mark.parametrize("asked", ["", "x" * 65, 'a"b', "a b", "a\tb", "<b>", "\xe9", "{}"])
def test_other_request_ids_are_replaced(live: Running, asked: str) -> None:
    found = live.ask("GET", "/healthz", headers={"x-request-id": asked}).headers["x-request-id"]
    assert found != asked and len(found) == 32 and found.isalnum()


def test_every_answer_has_the_headers_that_protect_browsers(live: Running) -> None:
    for path in ("/healthz", "/nix", "/metrics"):
        headers = live.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert "access-control-allow-origin" not in headers


def test_the_log_is_json_and_holds_no_key_and_no_line_of_a_client(locked: Running, caplog: pytest.LogCaptureFixture
                                                                  ) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "pixelsnail_infer.serving")
    locked.images(BODY, authorization=f"Bearer {KEYS[0]}", **{"x-request-id": "mine"})
    locked.ask("GET", "/a%0a%7b%22level%22:%22fake%22%7d%1b[2J%e2%80%a8?secret=1", headers={"authorization": KEYS[1]})
    locked.images({"colour\n\u2028{}": "\x1b"}, authorization=f"Bearer {KEYS[0]}")
    mine = (lambda line: line["request_id"] == "mine", lambda line: "fake" in line["path"],
            lambda line: line["status"] == 422)  # answers come before their lines, and those of other tests come late

    def logged() -> list[dict[str, Any]]:
        requests = [record for record in caplog.records if record.getMessage() == "request"]
        lines = [json.loads(JsonLines().format(record)) for record in requests]
        return [line for is_it in mine for line in lines if is_it(line)]

    until(lambda: len(logged()) == 3)
    lines = [JsonLines().format(record) for record in caplog.records if record.name.startswith("pixelsnail_infer")]
    found = [json.loads(line) for line in lines]
    first, second, third = logged()
    assert second["status"] == 401
    assert (first["request_id"], first["model"], first["n"], first["status"]) == ("mine", "digits", 1, 200)
    assert first["route"] == "/v1/images" and first["seconds"] > 0 and first["client"] == "127.0.0.1"
    assert "secret" not in second["path"] and "route" in third
    for line in lines:
        assert line.isascii() and line.isprintable()
        assert not any(key in line for key in KEYS)
    assert "\n" not in "".join(line["path"] for line in found if "path" in line)


def test_metrics_hold_no_paths_of_clients(live: Running) -> None:
    live.ask("GET", "/nix-secret-path")
    live.ask("BREW", "/healthz")
    page = live.ask("GET", "/metrics").body.decode()
    assert "nix-secret" not in page and "BREW" not in page and 'route="other"' in page
