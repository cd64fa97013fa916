"""The documents name only what exists: files, headings, commands with their options, settings."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from ca_service.cli import main
from ca_service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])

_FENCE = re.compile(r"^(```+)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(`+)(.+?)\1")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
# Not where it is a user's name: runuser -u ca-service -- PROGRAM.
_PROGRAM = re.compile(r"(?:^|[\s/(|;&])ca-service\s+(?!-- )(?=[a-z-])")
_END = frozenset({"|", "||", "&&", ";", "&", ")", ">", ">>", "<", "2>"})
_PLACEHOLDER = re.compile(r"\[?[A-Z]+\]?")  # a usage line: ca-service revoke [OPTIONS] COMMAND
_SETTING = re.compile(r"([a-z]+)\.([a-z_]+)")
_VARIABLE = re.compile(r"CASVC_([A-Z]+)__([A-Z_]+)")


class Named(NamedTuple):
    """A piece of code that a document shows, and the document."""

    document: str
    code: str


def _name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def _code(document: Path) -> Iterator[str]:
    """Every line of the fenced blocks, continued lines joined, and every inline piece of code."""
    text = document.read_text(encoding="utf-8")
    for block in _FENCE.finditer(text):
        yield from block[2].replace("\\\n", " ").splitlines()
    yield from (" ".join(piece[2].split()) for piece in _INLINE.finditer(_FENCE.sub("", text)))


def _commands() -> Iterator[Named]:
    for document in DOCUMENTS:
        for code in _code(document):
            for found in _PROGRAM.finditer(code.partition(" # ")[0]):
                yield Named(_name(document), code[found.end() :])


def _words(line: str) -> list[str]:
    """The words of a shell command up to where the next one starts."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in lexer:
        if word in _END:
            break
        words.append(word)
    return words


def _unknown(words: list[str]) -> str | None:
    """Walk the command tree along the words; return what is not in it, or None."""
    command: click.Command = main
    path: list[str] = []
    options: set[str] = {"--help"}
    waiting = list(words)
    while isinstance(command, click.Group) and waiting and not waiting[0].startswith("-"):
        word = waiting.pop(0)
        if _PLACEHOLDER.fullmatch(word):
            break
        context = click.Context(command)
        below = command.get_command(context, word)
        if below is None:
            return " ".join(["ca-service", *path, word])
        path.append(word)
        command = below
    for parameter in command.params:
        options |= {*parameter.opts, *parameter.secondary_opts}
    for word in waiting:
        option = word.strip("[]").partition("=")[0]
        if option.startswith("--") and option != "--" and option not in options:
            return " ".join(["ca-service", *path, option])
    return None


def _anchor(heading: str) -> str:
    """The anchor that a heading has on GitHub."""
    bare = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", bare).strip().replace(" ", "-")


def _anchors(document: Path) -> set[str]:
    return set(map(_anchor, _HEADING.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))))


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    broken = []
    for target in _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert not broken, f"{_name(document)} links to what is not there: {broken}"


def test_every_command_in_the_documents_exists_with_its_options() -> None:
    commands = list(_commands())
    assert len(commands) > 20, "the documents show far more commands than were found: the search is broken"
    wrong = {(named.document, unknown) for named in commands if (unknown := _unknown(_words(named.code)))}
    assert not wrong


def test_every_setting_in_the_documents_exists() -> None:
    sections = {
        name: annotation.model_fields
        for name, field in Settings.model_fields.items()
        if (annotation := field.annotation) is not None and hasattr(annotation, "model_fields")
    }
    wrong = []
    for document in DOCUMENTS:
        for code in _code(document):
            whole = _SETTING.fullmatch(code)
            named = [(whole[1], whole[2])] if whole and whole[1] in sections else []
            named += [(found[1].lower(), found[2].lower()) for found in _VARIABLE.finditer(code)]
            wrong += [
                (_name(document), f"{section}.{name}")
                for section, name in named
                if name not in sections.get(section, {})
            ]
    assert not wrong


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("no-such-command --dir x", "ca-service no-such-command"),
        ("init --no-such-option x", "ca-service init --no-such-option"),
        ("revoke no-such-thing", "ca-service revoke no-such-thing"),
        ("init --dir ./x | grep --color x", None),
    ],
)
def test_the_check_itself_sees_what_does_not_exist(line: str, unknown: str | None) -> None:
    assert _unknown(_words(line)) == unknown
