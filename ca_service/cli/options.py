"""Options that several verbs share."""

import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ca_service.authority.fact_readers import read_seconds

if TYPE_CHECKING:
    from ca_service.cli.desk import OpenDesk
    from ca_service.settings import Settings

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class SettingsFile(click.ParamType["Settings"]):
    """A settings file, read and checked together with the CASVC_… environment."""

    name = "ca.toml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Settings":
        """Load it; a ConfigurationError ends the command with its sentence."""
        from ca_service.settings import Settings, load_settings

        del param, ctx
        if isinstance(value, Settings):
            return value
        path = Path(value)
        return load_settings(path / "ca.toml" if path.is_dir() else path, os.environ)


class Moment(click.ParamType[int]):
    """A time as RFC 3339, or a date: seconds since 1970."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it; a wrong one is a usage error with a sentence."""
        if isinstance(value, int):
            return value
        try:
            return read_seconds(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def config_option(*, required: bool = True) -> _Decorator:
    """The option that names the settings file; the command gets `settings`."""
    return click.option(
        "--config",
        "settings",
        type=SettingsFile(),
        metavar="FILE",
        required=required,
        help="The settings file that `init` made (DIR/ca.toml), or its folder.",
    )


def desk_option() -> _Decorator:
    """The options that say where the desk is; the command gets `open_desk`, a cli.desk.OpenDesk."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_desk(
            settings: "Settings | None", server: str | None, token_file: str | None, **given: Any
        ) -> Any:
            return command(open_desk=_opener(settings, server, token_file), **given)

        decorated: Callable[..., Any] = with_desk
        for option in reversed((config_option(required=False), *_REMOTE)):
            decorated = option(decorated)
        return decorated

    return decorate


_REMOTE = (
    click.option(
        "--server",
        metavar="URL",
        help="The service to administer over the network, instead of --config on its host.",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        help="The token for --server; - is standard input.  [default: CASVC_TOKEN, else that of `login`]",
    ),
)


def _opener(settings: "Settings | None", server: str | None, token_file: str | None) -> "OpenDesk":
    if (settings is None) == (server is None):
        raise click.UsageError(
            "say where the authority is: --config FILE on its host, or --server URL over the network"
            + ("" if server is None else ", not both")
        )
    if settings is not None:
        if token_file is not None:
            raise click.UsageError("--token-file is for --server: on the host the local user acts")
        from ca_service.cli.host import host_desk

        return partial(host_desk, settings)
    from ca_service.cli.remote import remote_desk

    return partial(remote_desk, str(server), token_file)


json_option: _Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people."
)
