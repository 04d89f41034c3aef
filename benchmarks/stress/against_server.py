"""Clients in threads against the service in a process of its own, whose backend fails and stalls at random.

Clients ask for arrays and for streams of rows, read them slowly or leave them, reset their connections, set deadlines.
In the end the process gets SIGTERM while all of them ask. Every answer is the images of `sample`, or an error that it
may be; none is missing, and none comes twice.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from outcomes import Outcomes
from watching import Memory, open_files
from wishes import Wish

WAYS = ("array", "array", "rows", "slow rows", "left rows", "reset", "deadline")
PATIENCE = 120.0
OPTIONS = ("--queue", "16", "--slots", "8", "--max-streams", "64", "--port", "0", "--grace", "5")
MAY_BE = (429, 500, 503, 504)  # full, failed three times, ending, too late


class Server:
    """The process, and the port that it says it listens on."""

    def __init__(self, path: Path, threads: int | None) -> None:
        script = Path(__file__).resolve().with_name("faulty_server.py")
        command = [sys.executable, str(script), str(path), *OPTIONS]
        command += [] if threads is None else ["--threads", str(threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        assert self.process.stdout is not None
        told = self.process.stdout.readline().strip().rstrip("/")  # the address of its page
        if not told:
            raise SystemExit(f"the service did not start: {self.log}")
        self.port = int(told.rpartition(":")[2])
        while self._status("/v2/health/ready") != 200:
            time.sleep(0.1)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log = [*self.log[-50:], line]

    def _status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", path)
        status = connection.getresponse().status
        connection.close()
        return status


def against_server(path: Path, pool: Sequence[Wish], requests: int, clients: int, seed: int, threads: int | None
                   ) -> tuple[Outcomes, dict[str, Any]]:
    """`requests` requests by `clients` clients; what became of them, and figures."""
    outcomes, server = Outcomes(), Server(path, threads)
    memory, ending = Memory(max(requests // 20, 1), server.process.pid), threading.Event()
    started, files = time.monotonic(), open_files(server.process.pid)
    _serve(server, pool, iter(range(requests)), clients, seed, outcomes, memory, ending)
    seconds = time.monotonic() - started
    time.sleep(1)  # connections that were reset are closed by then
    if open_files(server.process.pid) > files + 2:
        outcomes.fault(f"the service has {open_files(server.process.pid) - files} files or sockets more than before")
    growth = memory.growth(requests // 10)
    last = threading.Thread(target=_serve, args=(server, pool, iter(range(requests // 20 + clients)), clients, seed + 1,
                                                 outcomes, Memory(10**9, server.process.pid), ending))
    last.start()
    time.sleep(0.5)
    ending.set()
    server.process.send_signal(signal.SIGTERM)
    last.join()
    try:
        if (code := server.process.wait(30)) != 0:
            outcomes.fault(f"the service ended with code {code}: {server.log[-3:]}")
    except subprocess.TimeoutExpired:
        outcomes.fault("the service did not end within 30 s of SIGTERM")
        server.process.kill()
    return outcomes, {"requests": outcomes.total, "seconds": seconds, "memory": memory.seen, "growth_bytes": growth}


def _serve(server: Server, pool: Sequence[Wish], left: Any, clients: int, seed: int, outcomes: Outcomes, memory: Memory,
           ending: threading.Event) -> None:
    workers = [threading.Thread(target=_client, args=(server.port, pool, left, random.Random(seed + k), outcomes,
                                                      memory, ending)) for k in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _client(port: int, pool: Sequence[Wish], left: Any, dice: random.Random, outcomes: Outcomes, memory: Memory,
            ending: threading.Event) -> None:
    for _ in left:
        wish, way = dice.choice(pool), dice.choice(WAYS)
        body = _body(wish) | ({"deadline": dice.random() * 0.2 + 0.01} if way == "deadline" else {})
        try:
            _ask(port, body, wish, way, outcomes)
        except (ConnectionError, http.client.HTTPException, TimeoutError) as error:
            if isinstance(error, TimeoutError) or not ending.is_set():
                outcomes.fault(f"a request ({way}) was not answered: {type(error).__name__} {error}")
            outcomes.count("connection ended" if ending.is_set() else "lost")
        if not ending.is_set():
            memory.look(outcomes.total)


def _body(wish: Wish) -> dict[str, Any]:
    conditions = {name: value for name, value in wish.arguments.items() if name not in (
        "n", "seed", "temperature", "top_k", "top_p", "known", "known_mask")}
    plain = {name: wish.arguments[name] for name in ("n", "seed", "temperature", "top_k", "top_p")
             if name in wish.arguments}
    arrays = {name: _npy(wish.arguments[name]) for name in ("known", "known_mask") if name in wish.arguments}
    return {**plain, **arrays, "conditions": {name: _npy(np.asarray(value)) for name, value in conditions.items()}}


def _npy(array: Any) -> dict[str, str]:
    held = io.BytesIO()
    np.save(held, array)
    return {"npy": base64.b64encode(held.getvalue()).decode()}


def _ask(port: int, body: dict[str, Any], wish: Wish, way: str, outcomes: Outcomes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    accept = "text/event-stream" if "rows" in way else "application/x-npy"
    connection.request("POST", "/v1/images", json.dumps(body), {"content-type": "application/json", "accept": accept})
    if way == "reset":  # as a client that crashes does
        assert connection.sock is not None
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        outcomes.count("reset")
        return
    response = connection.getresponse()
    if response.status != 200:
        _refused(response, way, outcomes)
    elif accept == "application/x-npy":
        images = np.load(io.BytesIO(response.read()))
        outcomes.count("images")
        if not np.array_equal(images, wish.images):
            outcomes.fault(f"a request ({way}) got other images than `sample` gives")
    else:
        _stream(response, wish, way, outcomes)
    connection.close()


def _refused(response: http.client.HTTPResponse, way: str, outcomes: Outcomes) -> None:
    told = json.loads(response.read())
    if response.status not in MAY_BE or (response.status == 504 and way != "deadline"):
        outcomes.fault(f"a request ({way}) got {response.status}: {told}")
    if response.status in (429, 503):
        if response.getheader("Retry-After") is None:
            outcomes.fault(f"{response.status} without Retry-After")
        time.sleep(0.05)
    outcomes.count(f"status {response.status}")


def _stream(response: http.client.HTTPResponse, wish: Wish, way: str, outcomes: Outcomes) -> None:
    images, rows, event = np.full(wish.images.shape, -1, wish.images.dtype), 0, ""
    for line in response:
        text = line.decode().rstrip("\n")
        if text.startswith("event: "):
            event = text[7:]
        elif text.startswith("data: ") and event == "row":
            row = json.loads(text[6:])
            images[row["image"], row["row"]] = row["pixels"]
            rows += 1
            if way == "left rows" and rows == 2:
                outcomes.count("left")
                return
            time.sleep(0.005 if way == "slow rows" else 0)
        elif text.startswith("data: ") and event in ("end", "error"):
            break
    outcomes.count(f"stream: {event}")
    whole = rows == images.shape[0] * images.shape[1] and np.array_equal(images, wish.images)
    if event == "end" and not whole:
        outcomes.fault(f"a stream of {rows} rows was not that of `sample`")
    if event not in ("end", "error"):
        raise http.client.IncompleteRead(b"")
