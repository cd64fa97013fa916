"""The command with its verbs, and how it fails: one sentence, a remedy, an exit code, no traceback."""

import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from ca_service import __version__
from ca_service.errors import (
    AlreadyExists,
    CAError,
    ConfigurationError,
    InvalidRequest,
    LogForked,
    NotFound,
    Unavailable,
)

DONE, ANSWER_IS_NO, USAGE, COULD_NOT_ASK = 0, 1, 2, 3
"""The exit codes of every verb; a broken configuration is a fault of usage."""

SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Set up and run": {
        "init": "ca_service.cli.init:init",
        "serve": "ca_service.cli.serve:serve",
        "migrate": "ca_service.cli.migrate:migrate",
        "doctor": "ca_service.cli.doctor:doctor",
        "fsck": "ca_service.cli.fsck:fsck",
        "backup": "ca_service.cli.backup:backup",
        "recover": "ca_service.cli.recover:recover",
        "export-trust": "ca_service.cli.export_trust:export_trust",
        "log": "ca_service.cli.log:log",
        "rotate": "ca_service.cli.rotate:rotate",
        "root-crl": "ca_service.cli.root_crl:root_crl",
    },
    "Find and revoke": {
        "find": "ca_service.cli.find:find",
        "revoke": "ca_service.cli.revoke:revoke",
        "block": "ca_service.cli.block:block",
        "unblock": "ca_service.cli.block:unblock",
        "blocks": "ca_service.cli.block:blocks",
        "withdraw": "ca_service.cli.withdraw:withdraw",
        "audit": "ca_service.cli.audit:audit",
        "login": "ca_service.cli.login:login",
        "status": "ca_service.cli.status:status",
        "crl": "ca_service.cli.crl:crl",
        "verify-inclusion": "ca_service.cli.verify_inclusion:verify_inclusion",
    },
    "Develop": {
        "dev": "ca_service.cli.dev:dev",
        "dev-token": "ca_service.cli.dev:dev_token",
    },
}

_EPILOG = """\
Exit codes: 0 done; 1 the answer is no (revoked, not found, a check failed); 2 wrong usage or settings;
3 could not ask (no database, no network).
"""


class VerbGroup(click.Group):
    """Imports a verb's module only when it is asked for: what `serve` needs must not slow `--help` down."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, in the order of the sections."""
        del ctx
        return [verb for verbs in SECTIONS.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a verb."""
        del ctx
        for verbs in SECTIONS.values():
            if cmd_name in verbs:
                module, _, name = verbs[cmd_name].partition(":")
                command: click.Command = getattr(importlib.import_module(module), name)
                return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs by section."""
        widest = max(len(verb) for verb in self.list_commands(ctx))
        for title, verbs in SECTIONS.items():
            rows = []
            for verb in verbs:
                command = self.get_command(ctx, verb)
                if command is not None:
                    rows.append((verb.ljust(widest), command.get_short_help_str(formatter.width - widest)))
            with formatter.section(title):
                formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a verb; every failure ends as a sentence on standard error and an exit code."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
                error = click.MissingParameter(error.param.help, error.ctx, error.param)
            error.show()
            sys.exit(USAGE)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(130)
        except CAError as error:
            _explain(error)
        except BrokenPipeError:
            # The reader of our output has left; Python would complain again when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(DONE)
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            _fail(f"{error.strerror or error}{place}", "Check the path and its permissions.", COULD_NOT_ASK)
        except Exception as error:  # noqa: BLE001 - the last resort: exit code 1 would mean "the answer is no"
            traceback.print_exc()
            _fail(f"a fault of this program: {type(error).__name__}", "Please report it.", COULD_NOT_ASK)
        sys.exit(code if isinstance(code, int) else DONE)


_PASSING = "Try again shortly; if it stays so, correct what the message names, and run `ca-service doctor`."


def exit_code(error: CAError) -> int:
    """The exit code that an error means."""
    if isinstance(error, NotFound | AlreadyExists | LogForked):
        return ANSWER_IS_NO
    if isinstance(error, ConfigurationError | InvalidRequest):
        return USAGE
    return COULD_NOT_ASK


@contextmanager
def explained() -> Iterator[None]:
    """End the process as a verb does when what is done in the block fails for a reason of ours."""
    try:
        yield
    except CAError as error:
        _explain(error)


def _explain(error: CAError) -> NoReturn:
    # Some remedies are written for callers of the web API: of a lookup that found nothing, and of trouble
    # that passes.
    remedy = _PASSING if error.remedy == Unavailable.remedy else error.remedy
    _fail(error.message, None if isinstance(error, NotFound) else remedy, exit_code(error))


def _fail(message: str, remedy: str | None, code: int) -> NoReturn:
    click.echo(f"ca-service: {message}", err=True)
    if remedy is not None:
        click.echo(f"What to do: {remedy}", err=True)
    sys.exit(code)


@click.command(
    cls=VerbGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="ca-service %(version)s")
def main() -> None:
    """Issue ten-minute code-signing certificates for proven identities, log them, and take them back.

    Start with `ca-service init --dir DIR`, or `ca-service dev --dir DIR` to try it out.
    `ca-service VERB --help` explains a verb.
    """
