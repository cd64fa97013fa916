"""Reading settings: the TOML file, then the environment over it, then anything the command line says.

Every refusal is a ConfigurationError that names the setting, the place it came from, what was expected and
what came.
"""

import difflib
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from ca_service.errors import ConfigurationError
from ca_service.settings.administration import AdminRoleSettings
from ca_service.settings.issuer_policy import IssuerPolicySettings
from ca_service.settings.model import Origin, Settings
from ca_service.settings.section import Section

PREFIX = "CASVC_"

# Which settings file gunicorn's own command is to serve, see deploy/gunicorn.conf.py.
SETTINGS_FILE = "CASVC_CONFIG"

# Values of the environment that are no settings, read by the commands that need them: also a client's token,
# and the passphrase of the root key.
NOT_SETTINGS = frozenset({SETTINGS_FILE, "CASVC_TOKEN", "CASVC_ROOT_PASSPHRASE"})

_LISTS: Mapping[str, type[Section]] = {"issuer_policy": IssuerPolicySettings, "admin_role": AdminRoleSettings}
_CLAIMS = frozenset({"required_claims", "claims"})

_ENVIRONMENT_ONLY = frozenset({"keys.passphrase"})

_REFUSED = "; unknown names are refused, so that a misspelt setting cannot pass unnoticed"


def setting_names(model: type[BaseModel] = Settings, above: str = "") -> Iterator[str]:
    """Every setting as a dotted name, in the order of the file: issuers, service.url, …"""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_names(field.annotation, f"{above}{name}.")
        else:
            yield above + name


def written(name: str) -> str:
    """A dotted name as people find it in the file: `[server] workers`."""
    section, _, key = name.rpartition(".")
    return f"[{section}] {key}" if section else key


def environment_name(name: str) -> str:
    """The environment variable that sets a dotted name."""
    return PREFIX + name.upper().replace(".", "__")


def load_settings(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read the settings file and the environment's CASVC_… over it; the environment wins.

    Raises ConfigurationError when the file cannot be read, when a name is unknown, or when a value is not
    what its setting takes.
    """
    file = path.absolute()
    values = dict(_from_file(file))
    sources = dict.fromkeys(values, "file")
    for variable, name, value in _from_environment(environ):
        values[name] = value
        sources[name] = f"environment {variable}"
    return _settings(file, values, sources)


def with_values(settings: Settings, changes: Mapping[str, object], source: str) -> Settings:
    """The same settings with some dotted names set anew and checked again; `source` says who set them."""
    origin = settings.origin
    values = {name: value_of(settings, name) for name in origin.sources} | dict(changes)
    return _settings(origin.file, values, dict(origin.sources) | dict.fromkeys(changes, source))


def value_of(settings: Settings, name: str) -> object:
    """The effective value of a dotted name."""
    value: object = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def shown(settings: Settings, name: str) -> str:
    """The effective value of a dotted name as a person may see it: without passphrase or password."""
    value = value_of(settings, name)
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if name in Settings.SECRET_URLS:
        return _without_password(str(value))
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{separator}{user}{':***' if colon else ''}{at}{place}"


def _from_file(file: Path) -> Iterator[tuple[str, object]]:
    try:
        with file.open("rb") as opened:
            tree = tomllib.load(opened)
    except FileNotFoundError:
        raise ConfigurationError(
            f"the settings file {file} does not exist; `ca-service init --dir {file.parent}` makes one"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"the settings file {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"the settings file {file} is not valid TOML, which is UTF-8: line {line} has other octets; save"
            " it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"the settings file {file} is not valid TOML: {error}") from error
    known = set(setting_names()) - _ENVIRONMENT_ONLY
    for name, value in _leaves(tree, known):
        if name in _ENVIRONMENT_ONLY:
            raise ConfigurationError(
                f"{written(name)} in {file}: a secret does not belong into this file; name a file with"
                f" [keys] passphrase_file, or set {environment_name(name)}"
            )
        if name not in known:
            raise ConfigurationError(
                f"{written(name)} in {file} is no setting; {_nearest(name, known, written)}"
            )
        yield name, value


def _leaves(tree: Mapping[str, object], known: set[str], above: str = "") -> Iterator[tuple[str, object]]:
    """The values of nested tables by dotted name; a table that no setting lies in counts as one value."""
    for key, value in tree.items():
        name = above + key
        if isinstance(value, dict) and any(setting.startswith(name + ".") for setting in known):
            yield from _leaves(value, known, name + ".")
        else:
            yield name, value


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, str, object]]:
    variables = {environment_name(name): name for name in setting_names()}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
            continue
        if variable not in variables:
            raise ConfigurationError(
                f"the environment variable {variable} is no setting;"
                f" {_nearest(variable, set(variables), str)}"
            )
        name = variables[variable]
        yield variable, name, _from_text(name, environ[variable])


def _from_text(name: str, text: str) -> object:
    """A list comes from the environment as JSON or separated by commas; an absent file as empty text."""
    section, _, key = name.rpartition(".")
    model = Settings.model_fields[section].annotation if section else Settings
    annotation = model.model_fields[key].annotation if isinstance(model, type) else None
    if getattr(annotation, "__origin__", None) is tuple:
        if text.lstrip().startswith("["):
            try:
                return json.loads(text)
            except ValueError:
                return text
        return [part.strip() for part in text.split(",") if part.strip()]
    if not text and type(None) in get_args(annotation):
        return None
    return text


def _nearest(name: str, known: set[str], show: Callable[[str], str]) -> str:
    table, _, key = name.rpartition(".")
    if keys := sorted(one.rpartition(".")[2] for one in known if one.rpartition(".")[0] == table != ""):
        near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
        hint = f"the nearest is {show(f'{table}.{near[0]}')}" if near else f"it may be {', '.join(keys)}"
        return hint + _REFUSED
    section = next(iter(difflib.get_close_matches(name, sorted(_sections()), n=1, cutoff=0.7)), None)
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    if section is not None:
        hint = f"the nearest is the table [{section}]"
    else:
        hint = f"the nearest is {show(close[0])}" if close else "config/ca.toml lists every one"
    return hint + _REFUSED


def _settings(file: Path, values: Mapping[str, object], sources: dict[str, str]) -> Settings:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        section, _, key = name.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[key] = value
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise _refusal(error.errors(include_url=False)[0], file, values, sources) from None
    resolved = _absolute(settings, file.parent)
    resolved._origin = Origin(file, file.parent, sources)  # noqa: SLF001 - the one place that makes settings
    return resolved


def _absolute(model: Settings, folder: Path) -> Settings:
    """A copy in which every path is absolute."""

    def absolute(section: BaseModel) -> dict[str, object]:
        return {
            name: folder / value if isinstance(value, Path) else value
            for name, value in section
            if not isinstance(value, BaseModel)
        }

    sections = {
        name: section.model_copy(update=absolute(section))
        for name, section in model
        if isinstance(section, BaseModel)
    }
    return model.model_copy(update=absolute(model) | sections)


def _refusal(
    detail: ErrorDetails, file: Path, values: Mapping[str, object], sources: Mapping[str, str]
) -> ConfigurationError:
    """Turn pydantic's first complaint into our sentence."""
    location = [str(part) for part in detail["loc"]]
    expected = detail["msg"].removeprefix("Value error, ")
    if not location:
        name, expected, _ = expected.split("|")
    else:
        name = ".".join(location[:2] if location[0] in _sections() else location[:1])
    if name in _LISTS:
        place = f"in {file}" if sources[name] == "file" else f"from {sources[name]}"
        return _list_refusal(name, detail, location, expected, place)
    missing = name not in values
    if missing and name in _sections():
        name = next(setting for setting in setting_names() if setting.startswith(name + "."))
    if detail["type"] == "missing":
        return ConfigurationError(
            f"{written(name)} is missing in {file}, and neither does {environment_name(name)} set it;"
            f" expected: {_description(name)}"
        )
    source = sources.get(name, "default")
    place = f"in {file}" if source == "file" else f"from {source}"
    return ConfigurationError(
        f"{written(name)} {place}: expected {_lower(expected)}, not {_came(name, values.get(name))}",
        setting=name,
    )


def _list_refusal(
    name: str, detail: ErrorDetails, location: list[str], expected: str, place: str
) -> ConfigurationError:
    """The same for a member of one table of a list of tables, which is found by its place in the list."""
    where = f"[[{name}]] {place}"
    if len(location) == 1:
        return ConfigurationError(f"{where}: expected a list of tables", setting=name)
    where = f"[[{name}]] number {int(location[1]) + 1} {place}"
    member = location[2] if len(location) > 2 else ""
    known = ", ".join(_LISTS[name].model_fields)
    if detail["type"] == "extra_forbidden":
        return ConfigurationError(f"{where}: {member} is no setting; expected one of {known}", setting=name)
    if detail["type"] == "missing":
        return ConfigurationError(f"{where}: {member} is missing", setting=name)
    if not member:
        return ConfigurationError(f"{where}: expected a table with {known}", setting=name)
    if member in _CLAIMS:
        claim = f" {location[3]}" if len(location) > 3 else ""
        expected = "a text, number or boolean, or a list of them"
        if not claim:
            expected = "a table of one or more claims, each with " + expected
        return ConfigurationError(f"{where}: {member}{claim}: expected {expected}", setting=name)
    return ConfigurationError(f"{where}: {member}: expected {_lower(expected)}", setting=name)


def _sections() -> set[str]:
    return {name.partition(".")[0] for name in setting_names() if "." in name}


def _description(name: str) -> str:
    section, _, key = name.rpartition(".")
    model = Settings.model_fields[section].annotation if section else Settings
    fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
    return fields[key].description or key


def _lower(sentence: str) -> str:
    if sentence.startswith("Tuple should have at least 1 item"):
        return "a list that is not empty"
    if sentence == "Input should be a valid tuple":
        return 'a list, such as ["one", "two"]'
    text = sentence.removeprefix("Input should be ").removeprefix("Input should ").partition(", unable to")[0]
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _came(name: str, value: object) -> str:
    if name in Settings.SECRET_URLS or name in _ENVIRONMENT_ONLY:
        return "what came (not shown, since it may hold a password)"
    return repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "…"
