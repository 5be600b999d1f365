"""The command line. Exit status: 0 fine, 1 findings, 2 the input or its use is wrong (one line on stderr).

Each command is a module of its own, imported only when it is asked for: ``dmaproof --version`` reads none of them.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, TextIO

import click

from dmaproof import __version__
from dmaproof.errors import DmaproofError
from dmaproof.nearest import did_you_mean
from dmaproof.report.text import printable

FINDINGS = 1
USAGE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE: what a program that leaves SIGPIPE alone ends with

COMMANDS = {
    "doctor": "What this machine can run, and the one command that supplies each missing thing.",
    "rigs": "The rigs that come with dmaproof, or the whole declaration of one.",
    "decode": "Kernel log lines as IOMMU faults, Xids and the like.",
    "triage": "What a kernel log says is to blame.",
    "route": "Where the kernel sends peer traffic between two devices, and what would change it.",
    "audit-trace": "What of a guest's device memory is missing from stage 2, by QEMU's trace log.",
    "report": "The report of a run, made again from its record.",
    "lab": "The lab's QEMU and kernels: found, unpacked or built.",
}


class Command(click.Command):
    """A command that names the first argument too many."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "" in args:  # as a file's name it would be this folder
            raise click.UsageError("an argument is empty, '': is a variable of the shell not set?")
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest:
            raise click.UsageError(f"unexpected argument {rest[0]!r}")
        return rest


class Commands(click.Group):
    """The commands of ``table`` (name, and what help says), each ``command`` of the module ``prefix`` + name."""

    def __init__(self, name: str | None = None, *, table: Mapping[str, str], prefix: str, **settings: Any) -> None:
        super().__init__(name, **{**settings, "no_args_is_help": False})
        self.table, self.prefix = table, prefix

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            raise click.UsageError(f"say what to do: {', '.join(self.table)} ({ctx.command_path} --help tells more)")
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.table:
            return None
        command: click.Command = import_module(f"{self.prefix}{cmd_name.replace('-', '_')}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] not in self.table and not args[0].startswith("-"):
            raise click.UsageError(f"no command {args[0]!r}: {did_you_mean(args[0], self.table)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(self.table.items()))


@click.group(
    cls=Commands,
    table=COMMANDS,
    prefix="dmaproof.cli.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="dmaproof %(version)s")
def group() -> None:
    """Qualifies CUDA peer-to-peer transfers and unified memory, and names the cause when they fail.

    Run the suites with pytest; these commands are for what is around them. Exit status: 0 fine, 1 findings, 2 wrong
    input.
    """


def main() -> None:
    """The console script: runs the command line and exits with its status, never with a traceback of a known error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a log's odd bytes must not fail in a terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_status(sys.argv[1:]))


def _status(arguments: list[str]) -> int:
    try:
        status = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        return _complain(_in_our_voice(error.format_message()), USAGE)
    except DmaproofError as error:
        return _complain(str(error), USAGE)
    except OSError as error:
        return _failed_output(error)
    return status


def _run(arguments: list[str]) -> int:
    with group.make_context("dmaproof", arguments, color=False if _is_plain() else None) as context:
        group.invoke(context)
        return int(context.meta.get(__name__, 0))


def findings() -> None:
    """Called by a command that found something: it ends with status 1, after all it has to say."""
    click.get_current_context().meta[__name__] = FINDINGS


def remark(text: str) -> None:
    """Tells, beside the answer, what a person should know of it: one line on stderr."""
    click.echo(_voiced(text), err=True)


def _is_plain() -> bool:
    """Whether colours are not wanted (no-color.org), or not shown."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _in_our_voice(message: str) -> str:
    """click's own messages begin with a capital letter and may end with a full stop; ours do neither."""
    return message[:1].lower() + message[1:].rstrip(".")


def _complain(message: str, status: int) -> int:
    if sys.stderr is not None:
        try:
            print(_voiced(message), file=sys.stderr)  # noqa: T201 - this is the command line's own voice
        except OSError:  # nobody can be told: the status still tells
            _let_go(sys.stderr)
    return status


def _voiced(text: str) -> str:
    """Names of files are anyone's input too: one line, and nothing that a terminal would obey."""
    return f"dmaproof: {printable(' '.join(text.split()))}"


def _let_go(stream: TextIO) -> None:
    """What is written to ``stream`` goes nowhere from here on, or the interpreter would meet its error again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _failed_output(error: OSError) -> int:
    """Commands turn the failures of their inputs into DmaproofErrors: what is left is the output's."""
    if sys.stdout is not None:
        _let_go(sys.stdout)
    if error.errno == errno.EPIPE:
        return BROKEN_PIPE
    where = f" {error.filename}" if error.filename else ""
    return _complain(f"cannot write the output{where}: {error.strerror or error}", USAGE)
