"""The command `serve`: models behind HTTP, with a page to try them."""

from __future__ import annotations

import argparse
import asyncio
import importlib
from types import ModuleType
from typing import Any

from pixelsnail_infer.commandline import ArgumentParser
from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.commands.options import add_choice, checked, whole
from pixelsnail_infer.runtime.serving.settings import LOCAL, Settings

__all__ = ["add_serve"]

_ROOM = "pixelsnail_infer.runtime.serving"
_EXTRA = ("starlette", "uvicorn", "prometheus_client", "anyio", "PIL")
_HELP = f"""\
Answer requests for images over HTTP: a page to try the models, JSON, streams of rows, and the Open Inference Protocol.

  pixelsnail-infer serve digits.onnx                                  http://127.0.0.1:8000/ is the page
  pixelsnail-infer serve digits=out/a.onnx photos=out/b.onnx --port 9000
  pixelsnail-infer serve faces=top.onnx,bottom.onnx,decoder.onnx      a pipeline: images as `generate` draws them
  pixelsnail-infer serve digits.onnx --host 0.0.0.0 --api-key-file keys.txt
  curl -s localhost:8000/v1/images -H 'content-type: application/json' -d '{{"n": 4, "label": 3}}' -o digits.png

Requests are drawn together as they come; each image is the one that `sample` draws for the same seed. The port answers
while models are loaded, with status 503. SIGTERM ends the service: it takes no more requests, finishes what it has for
at most --grace seconds, and gives up the rest.

It listens on this machine's own address ({LOCAL[0]}) unless --host says otherwise. --api-key-file holds keys, one a
line; clients send `Authorization: Bearer KEY`. There is no TLS: put a proxy in front for other networks. The log goes
to the standard error, a JSON object a line. Needs: pip install 'pixelsnail-infer[serve,cpu]'."""


def add_serve(commands: argparse._SubParsersAction[ArgumentParser]) -> None:
    """Add the command; `run` of what it parses returns an exit code."""
    limits = Settings()
    parser = commands.add_parser("serve", help="answer requests over HTTP", description=_HELP)
    parser.add_argument("models", nargs="+", metavar="[NAME=]FILE[,FILE…]", help="a model, or the files of a "
                        "pipeline, and the name to serve it by (default: the first file's)")  # fmt: skip
    parser.add_argument("--host", default=LOCAL[0], help=f"the address to listen on (default {LOCAL[0]})")
    parser.add_argument("--port", type=whole(0), default=8000, help="the port; 0 takes a free one (default 8000)")
    parser.add_argument("--api-key-file", metavar="FILE", help="keys that clients must have, one a line")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME",
                        help="a name that clients address the service by; may be repeated (default: the loopback's "
                        "names there, else any)")  # fmt: skip
    parser.add_argument("--trust-proxy", metavar="ADDRESS", help="believe the X-Forwarded headers of this proxy")
    parser.add_argument("--grace", type=checked(_seconds), default=30.0, help="seconds to finish in (default 30)")
    parser.add_argument("--slots", type=whole(1), default=16, help="images drawn at once, of each model (default 16)")
    parser.add_argument("--queue", type=whole(1), default=256, help="requests that may wait (default 256)")
    parser.add_argument("--memory", type=whole(1), default=256, metavar="MIB",
                        help="what unfinished requests may hold together, of each model (default 256)")  # fmt: skip
    parser.add_argument("--max-n", type=whole(1), default=limits.most_images,
                        help=f"images of one request (default {limits.most_images})")  # fmt: skip
    parser.add_argument("--max-body", type=whole(1), default=limits.most_body >> 20, metavar="MIB",
                        help=f"size of a request's body (default {limits.most_body >> 20})")  # fmt: skip
    parser.add_argument("--max-streams", type=whole(1), default=limits.streams,
                        help=f"streams that one client may have open (default {limits.streams})")  # fmt: skip
    parser.add_argument("--threads", type=whole(1), help="threads of the engine (default: one per core)")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    add_choice(parser)
    parser.set_defaults(run=run_serve, fail=parser.error)


def run_serve(args: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    server, loading, access, service, log = (_module(name) for name in
                                             ("server", "loading", "access", "service", "log"))  # fmt: skip
    try:
        named = [loading.parse_named(text) for text in args.models]
    except ValueError as error:
        args.fail(str(error))
    if args.port > 65535:
        args.fail(f"--port is {args.port}, expected at most 65535")
    settings = settings_of(args, () if args.api_key_file is None else access.read_keys(args.api_key_file))
    options = loading.EngineOptions(device=args.device, backend=args.backend, threads=args.threads, slots=args.slots,
                                    queue=args.queue, memory=args.memory << 20)  # fmt: skip
    listening = server.bound(args.host, args.port)
    log.log_to_stderr(args.log_level)
    host, port = listening.getsockname()[:2]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)
    asyncio.run(server.serve(service.Service(settings), listening, lambda: loading.load_models(named, options),
                             grace=args.grace, trusted_proxies=args.trust_proxy))  # fmt: skip
    return 0


def settings_of(args: argparse.Namespace, keys: tuple[bytes, ...]) -> Settings:
    """The settings that the options say."""
    local = args.host in LOCAL
    hosts = (*args.allow_host, *LOCAL) if args.allow_host or local else ()
    body = args.max_body << 20
    return Settings(
        keys=keys, hosts=tuple(host.lower() for host in hosts), most_images=args.max_n, most_body=body,
        most_bodies=max(Settings().most_bodies, body), streams=args.max_streams,
    )  # fmt: skip


def _module(name: str) -> Any:
    """A file of the service, which needs the extra."""
    try:
        found: ModuleType = importlib.import_module(f"{_ROOM}.{name}")
        importlib.import_module("PIL.Image")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _EXTRA:
            raise
        what = f"serve needs {error.name}, which is not installed"
        raise BackendError(f"{what}; run: pip install 'pixelsnail-infer[serve,cpu]'") from error
    return found


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise ValueError(f"{shown(text)} is no number of seconds of at least 0")
    return seconds
