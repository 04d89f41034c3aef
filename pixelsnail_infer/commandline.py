"""What every command shares: usage errors, one line for an error, exit codes, and standard streams that may fail."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, NoReturn, TextIO

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.messages import one_line, printable, shown

__all__ = ["ArgumentParser", "integer", "run_command"]

_DIGITS = 30  # of an integer on the command line; Python itself refuses some thousands


class ArgumentParser(argparse.ArgumentParser):
    """`argparse`'s, with descriptions as they are written, and usage errors of two lines: what is wrong, and how to get
    help."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})
        self.color = False  # newer Pythons colour the help; the streams of `run_command` take plain text

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)}\nTry '{self.prog} --help'.\n")


def integer(text: str, low: int | None = None) -> int:
    """The type of an integer argument of at least `low`. Raises `ArgumentTypeError`."""
    digits = text.strip()
    whole = (digits[1:] if digits[:1] in ("+", "-") else digits).isdecimal()
    if whole and len(digits) > _DIGITS:
        raise argparse.ArgumentTypeError(f"an integer of {len(digits)} digits is too large")
    if not whole or (low is not None and int(digits) < low):
        least = "" if low is None else f" of at least {low}"
        raise argparse.ArgumentTypeError(f"{shown(text)} is not an integer{least}")
    return int(digits)


def run_command(prog: str, command: Callable[[], int]) -> int:
    """Run `command`, which returns an exit code, as the program `prog`; returns the exit code.

    0 done; 1 bad input or result, with one line on the standard error; 130 interrupted. `SystemExit`, with which
    argparse ends after --help (0) and wrong usage (2), passes through. While the command runs, both standard streams
    take any text and never stop the work: what cannot be written is lost, and told at the end with exit code 1. Only a
    reader that is gone, as with `| head`, needs no word.
    """
    with _standard_streams() as output:
        try:
            code = _run(prog, command)
        except SystemExit as stop:
            if stop.code in (0, None) and not _all_written(prog, output):
                raise SystemExit(1) from stop
            raise
        return code if code or _all_written(prog, output) else 1


def _run(prog: str, command: Callable[[], int]) -> int:
    code = 1
    try:
        return command()
    except PixelsnailError as error:
        reason = str(error)
    except KeyboardInterrupt as stop:
        code, reason = 130, f"interrupted; {str(stop) or 'nothing was written'}"
    except MemoryError as error:
        reason = f"there is not enough memory ({error}); ask for less at once"
    except OSError as error:  # what the system refuses and nobody has put into other words
        reason = str(error)
    print(f"{prog}: {one_line(reason)}", file=sys.stderr)
    return code


def _all_written(prog: str, output: _Bytes) -> bool:
    sys.stdout.flush()
    if output.failure is None:
        return True
    if output.failure.errno != errno.EPIPE:
        reason = output.failure.strerror or output.failure
        print(f"{prog}: done, but the standard output cannot be written ({reason})", file=sys.stderr)
    return False


@contextmanager
def _standard_streams() -> Iterator[_Bytes]:
    """Within it, the standard streams are such as `run_command` says; gives the bytes of the standard output."""
    _occupy_standard_numbers()
    output, errors = _Bytes(sys.stdout), _Bytes(sys.stderr)
    try:
        with redirect_stdout(_Text(output)), redirect_stderr(_Text(errors)):
            try:
                yield output
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
    finally:
        output.drain()
        errors.drain()


def _occupy_standard_numbers() -> None:
    """A closed standard stream leaves its number free; the next file that is opened would get it, and then whatever the
    engine prints."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


class _Bytes(io.BufferedIOBase):
    """The bytes of a standard stream, which never raises: `failure` is the first error, and what follows is lost."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.name = getattr(stream, "name", "")
        self.failure = OSError(errno.EBADF, "it is closed") if stream is None else None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.stream is not None and not self.stream.closed and self.stream.isatty()

    def fileno(self) -> int:
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    def write(self, data: Any) -> int:
        self._try(lambda stream: self._put(stream, bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._try(lambda stream: stream.flush())

    def drain(self) -> None:
        """After a failure: send what the stream still holds nowhere, for Python writes it once more when it exits."""
        if self.stream is None or self.failure is None:
            return
        try:
            number = os.open(os.devnull, os.O_WRONLY)
            os.dup2(number, self.stream.fileno())
            os.close(number)
        except (OSError, ValueError):  # a stream without a number
            pass

    def _put(self, stream: TextIO, data: bytes) -> None:
        if (buffer := getattr(stream, "buffer", None)) is not None:
            buffer.write(data)
        else:  # a stream of text in memory
            stream.write(data.decode(_encoding(stream)))

    def _try(self, act: Callable[[TextIO], object]) -> None:
        if self.stream is None or self.failure is not None:
            return
        try:
            act(self.stream)
        except OSError as error:
            self.failure = error
        except ValueError:  # closed by Python
            self.failure = OSError(errno.EBADF, "it is closed")


class _Text(io.TextIOWrapper):
    """Text for a standard stream: what its encoding lacks, and what a terminal would obey, is written as an escape."""

    def __init__(self, target: _Bytes) -> None:
        target.flush()  # what was printed before comes first
        super().__init__(
            target, _encoding(target.stream), "backslashreplace", line_buffering=target.isatty(), write_through=True
        )

    def write(self, text: str) -> int:
        super().write(printable(text, keep="\n\r\t"))
        return len(text)


def _encoding(stream: TextIO | None) -> str:
    return getattr(stream, "encoding", None) or "utf-8"
