"""The shell that every command runs in: its errors, exit codes and streams."""

from __future__ import annotations

import contextlib
import errno
import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pixelsnail_infer.commandline import ArgumentParser, integer, run_command
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import one_line, printable, shown


class Failing(io.RawIOBase):
    """A device that refuses every byte."""

    def __init__(self, number: int) -> None:
        self.number = number

    def writable(self) -> bool:
        return True

    def write(self, _: Any) -> int:
        raise OSError(self.number, "refused")


def broken(number: int) -> io.TextIOWrapper:
    """Standard output on it, which notices at the first write."""
    return io.TextIOWrapper(Failing(number), "utf-8", write_through=True)  # type: ignore[arg-type]


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


def lines(command: Callable[[], int], out: Any = None, err: Any = None) -> tuple[int, str, str]:
    """Exit code and what was printed."""
    out, err = out or io.StringIO(), err or io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command("prog", command)
    return code, *("" if isinstance(s, io.TextIOWrapper) else s.getvalue() for s in (out, err))  # type: ignore[return-value]


def written(stream: Any) -> bytes:
    data: bytes = stream.buffer.getvalue()
    return data


@pytest.mark.parametrize(
    "error, code, says",
    [
        (RequestError("two\nlines"), 1, "prog: two lines\n"),
        (KeyboardInterrupt(), 130, "prog: interrupted; nothing was written\n"),
        (KeyboardInterrupt("2 of 3 files were written"), 130, "prog: interrupted; 2 of 3 files were written\n"),
        (MemoryError("8 GiB"), 1, "prog: there is not enough memory (8 GiB); ask for less at once\n"),
        (OSError(errno.EIO, "Input/output error", "a\nb"), 1, "prog: [Errno 5] Input/output error: 'a\\nb'\n"),
        (RequestError("\x1b[31m \u202e \udcff \x9b"), 1, "prog: \\x1b[31m \\u202e \\xff \\x9b\n"),
    ],
)
def test_errors_are_one_line(error: BaseException, code: int, says: str) -> None:
    assert lines(raising(error)) == (code, "", says)


def test_an_error_of_the_program_itself_is_shown_whole() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command("prog", lambda: 1 // 0)


def test_what_cannot_be_printed_does_not_stop_the_work() -> None:
    done = []

    def command() -> int:
        print("first")
        print("second", flush=True)
        done.append(True)
        return 0

    code, _, err = lines(command, out=broken(errno.ENOSPC))
    assert done and code == 1 and err == "prog: done, but the standard output cannot be written (refused)\n"
    done.clear()
    assert lines(command, out=broken(errno.EPIPE))[::2] == (1, "") and done, "a reader that is gone needs no word"


def test_an_error_is_told_once_where_the_output_is_full_as_well() -> None:
    def command() -> int:
        print("something")
        raise RequestError("bad")

    assert lines(command, out=broken(errno.ENOSPC))[::2] == (1, "prog: bad\n")


def test_streams_that_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for missing in (None, closed):
        monkeypatch.setattr(sys, "stdout", missing)
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            assert run_command("prog", lambda: print("lost") or 0) == 1  # type: ignore[func-returns-value]
            assert err.getvalue() == "prog: done, but the standard output cannot be written (it is closed)\n"
            monkeypatch.setattr(sys, "stderr", missing)
            assert run_command("prog", raising(RequestError("bad"))) == 1
            assert sys.stderr is missing and sys.stdout is missing, "the streams are put back"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_any_text_goes_to_any_encoding(encoding: str) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    assert lines(lambda: print("4×5 … π \udcff \x1b[0m") or 0, out=out)[0] == 0  # type: ignore[func-returns-value]
    text = written(out).decode(encoding)
    assert text.startswith("4") and text.endswith("\\xff \\x1b[0m\n") and "5" in text
    assert ("×" in text) == (encoding != "ascii") and ("π" in text) == (encoding == "utf-8")


def test_data_goes_out_as_it_is() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")

    def command() -> int:
        print("a")
        sys.stdout.buffer.write(b"\xff\x1b")
        print("b")
        return 0

    assert lines(command, out=out)[0] == 0 and written(out) == b"a\n\xff\x1bb\n"


def test_usage_errors_are_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser(prog="prog")
    sub = parser.add_subparsers(required=True).add_parser("sub")
    sub.add_argument("--n", type=integer)
    for given, prog in (([], "prog"), (["sub", "--n", "x\n\x1b"], "prog sub"), (["sub", "--m" + "x" * 9999], "prog")):
        with pytest.raises(SystemExit) as stop:
            run_command("prog", lambda given=given: parser.parse_args(given) and 0)  # type: ignore[misc]
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.startswith(f"{prog}: ") and error.endswith(f"\nTry '{prog} --help'.\n")
        assert error.count("\n") == 2 and len(error) < 1200 and "\x1b" not in error


def test_help_that_cannot_be_printed_is_an_error() -> None:
    parser = ArgumentParser(prog="prog", description="a … b")
    with pytest.raises(SystemExit) as stop:
        lines(lambda: parser.parse_args(["--help"]) and 0, out=broken(errno.ENOSPC))
    assert stop.value.code == 1


def test_integers() -> None:
    assert integer("12") == 12 and integer("-3") == -3 and integer("0", 0) == 0
    for text, says in (("", "is not an integer"), ("1.5", "is not an integer"), ("9" * 5000, "of 5000 digits")):
        with pytest.raises(Exception, match=says):
            integer(text)
    with pytest.raises(Exception, match="'0' is not an integer of at least 1"):
        integer("0", 1)


def test_text_for_messages() -> None:
    assert one_line(" a\n b\t\u2028c ") == "a b c" and len(one_line("x" * 10**6)) < 1100
    assert printable("a\nb\r", keep="\n") == "a\nb\\r" and printable("é π") == "é π"
    assert shown(10**5000) == "int of too many digits" and shown([10**5000]) == "list of too many digits"
    assert shown("a" * 1000).startswith("'aaa") and len(shown("a" * 1000)) == 80 and shown(7) == "7"
