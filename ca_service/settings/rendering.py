"""The settings written out for people: a commented settings file, and the reference document."""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import annotated_types
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ca_service.settings.model import Settings
from ca_service.settings.reading import environment_name

_WIDTH = 100

_HEAD = """\
Settings of ca-service. Every setting stands here with its meaning; those with a # in front have their
default. Relative paths start at the folder of this file. Any value can come from the environment too:
CASVC_SERVER__WORKERS=4 sets [server] workers and wins over this file. Unknown names are refused.
`ca-service doctor --config FILE` shows what is in effect and where it came from."""

EXAMPLE: Mapping[str, object] = {
    "service.url": "https://ca.example.com",
    "service.status_url": "http://status.example.com",
    "service.organization": "Example Org",
    "log.shard": "2026",
    "log.origin": "ca.example.com/ctlog/2026",
    "log.key": "private/log-2026.key",
}


def settings_file(values: Mapping[str, object]) -> str:
    """Write a settings file with these dotted names set and every other as a comment with its default."""
    return "\n".join([*_comment(_HEAD), "", *_table(Settings, "", values)]) + "\n"


def settings_reference() -> str:
    """Write the reference of every setting in Markdown."""
    lines = [
        "# Settings",
        "",
        "Made from the model by `scripts/generate-configuration-reference`; do not edit. A commented file",
        "with every setting is [config/ca.toml](../../config/ca.toml). Each value can come from the",
        "environment, which wins over the file; lists are written there with commas, or as JSON. Relative",
        "paths start at the folder of the settings file. Unknown names, in the file or starting with",
        "`CASVC_`, are refused. `ca-service doctor --config FILE` shows each effective value and its source.",
    ]
    top = [name for name, field in Settings.model_fields.items() if _section(field) is None]
    lines += ["", "## At the top of the file", "", *_rows(Settings, "", top)]
    for name, field in Settings.model_fields.items():
        if (section := _section(field)) is not None:
            if _is_list(field):
                about = f"{inspect.cleandoc(section.__doc__ or '')} {field.description}"
                lines += ["", f"## [[{name}]]", "", about, ""]
                lines += [f"In the environment `{environment_name(name)}` holds all of them, as JSON.", ""]
                lines += _rows(section, None, list(section.model_fields))
                continue
            lines += ["", f"## [{name}]", "", inspect.cleandoc(section.__doc__ or ""), ""]
            lines += _rows(section, f"{name}.", list(section.model_fields))
    return "\n".join(lines) + "\n"


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The table that a setting is, or whose list it is."""
    annotation = get_args(field.annotation)[0] if _is_list(field) else field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _is_list(field: FieldInfo) -> bool:
    one = next(iter(get_args(field.annotation)), None)
    return isinstance(one, type) and issubclass(one, BaseModel)


def _commented_list(name: str, section: type[BaseModel], field: FieldInfo) -> Iterator[str]:
    """A list of tables, all of it a comment: what is written there has no default to show."""
    yield from _comment(f"{section.__doc__} {field.description}")
    yield f"# [[{name}]]"
    for member, about in section.model_fields.items():
        yield from _comment(about.description or member)
        example = about.examples[0] if about.examples else _default(about)
        yield f"# {member} = {_toml(example)}"
    yield ""


def _table(model: type[BaseModel], above: str, values: Mapping[str, object]) -> Iterator[str]:
    sections = {}
    for name, field in model.model_fields.items():
        if (section := _section(field)) is not None:
            sections[name] = section
            continue
        if field.annotation is not None and SecretStr in get_args(field.annotation):
            continue
        yield from _comment(field.description or name)
        if above + name in values:
            yield f"{name} = {_toml(values[above + name])}"
        else:
            yield f"# {name} = {_toml(_default(field))}"
        yield ""
    for name, section in sections.items():
        if _is_list(model.model_fields[name]):
            yield from _commented_list(name, section, model.model_fields[name])
            continue
        yield f"[{name}]"
        yield from _comment(section.__doc__ or "")
        yield ""
        yield from _table(section, f"{name}.", values)


def _rows(model: type[BaseModel], above: str | None, names: list[str]) -> Iterator[str]:
    """A table of settings; with `above` None they have no variable of their own."""
    yield "| setting | default | takes | meaning |" + (" environment |" if above is not None else "")
    yield "|---|---|---|---|" + ("---|" if above is not None else "")
    for name in names:
        field = model.model_fields[name]
        default = "required" if field.is_required() else f"`{_toml(_default(field))}`"
        meaning = (field.description or "").replace("|", "\\|")
        yield (
            f"| `{name}` | {'none' if _default(field) is None else default} | {_takes(field)} | {meaning} |"
            + (f" `{environment_name(above + name)}` |" if above is not None else "")
        )


def _default(field: FieldInfo) -> object:
    if field.default_factory is dict:
        return {}
    return "" if field.default is PydanticUndefined else field.default


def _takes(field: FieldInfo) -> str:
    """What a setting takes, in a few words; its limits are those the model checks."""
    annotation: Any = field.annotation
    low = next((rule.ge for rule in field.metadata if isinstance(rule, annotated_types.Ge)), None)
    high = next((rule.le for rule in field.metadata if isinstance(rule, annotated_types.Le)), None)
    if annotation is int:
        return f"{low}–{high}"
    if annotation is bool:
        return "true, false"
    if getattr(annotation, "__origin__", None) is dict:
        return "a table of names and values"
    choices = get_args(get_args(annotation)[0]) if getattr(annotation, "__origin__", None) is tuple else ()
    if (
        not choices
        and annotation not in (str, Path)
        and all(isinstance(a, str) for a in get_args(annotation))
    ):
        return ", ".join(get_args(annotation))
    if choices:
        return "any of " + ", ".join(choices)
    if getattr(annotation, "__origin__", None) is tuple:
        return "a list"
    if annotation is Path or Path in get_args(annotation):
        return "a path"
    return "text"


def _toml(value: object) -> str:
    """Write a value as TOML; its strings and numbers are written like JSON's."""
    if isinstance(value, Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return json.dumps("" if value is None else value, ensure_ascii=False)


def _comment(text: str) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + len(word) + 1 > _WIDTH:
            yield line
            line = "#"
        line += " " + word
    yield line
