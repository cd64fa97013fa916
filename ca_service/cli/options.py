"""Options that several verbs share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
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


json_option: _Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people."
)
