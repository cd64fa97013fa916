"""The part of Go's text/template that issuer files use, compiled once when the file is loaded.

A bare word is a claim's name. Otherwise text with `{{ .claim }}`, `{{ index . "dotted/claim" }}` (also in
parentheses) and `{{ if eq A B }}…{{ else }}…{{ end }}`, where A and B are one of these or a quoted text.
Nothing else. A claim that is missing is refused, but for `index`, which then gives an empty text, as in Go.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ca_service.errors import TokenClaimInvalid, TokenClaimMissing

Values = Mapping[str, object]
"""Claims over a provider's defaults: a claim wins over the default of the same name."""

_Part = Callable[[Values], str]

_ACTION = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<field>\.[A-Za-z_][A-Za-z0-9_]*)|(?P<text>"(?:[^"\\\n]|\\["\\])*")"""
    r"""|(?P<word>[a-z]+)|(?P<mark>[.()]))"""
)
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template; `source` is its text and `names` the claims it can ask for."""

    source: str
    names: frozenset[str]
    _parts: tuple[_Part, ...] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, source: str, *, needs_all: bool = False) -> "Template":
        """Compile a template; raises ValueError, with a sentence for a person, outside the subset above.

        One that `needs_all` refuses a claim that `index` does not find: for what must never be half empty.
        """
        if "{{" not in source:
            if "}}" in source or not source.strip():
                raise ValueError(f"it is neither a claim's name nor a template: {source[:80]!r}")
            return cls(source, frozenset({source}), (_claim(source),))
        parser = _Parser(source, needs_all=needs_all)
        parts = parser.parse()
        return cls(source, frozenset(parser.names), parts)

    def render(self, values: Values) -> str:
        """Fill in the values; raises TokenClaimMissing or TokenClaimInvalid, naming the claim."""
        return "".join([part(values) for part in self._parts])


def _literal(text: str) -> _Part:
    return lambda _values: text


def _claim(name: str) -> _Part:
    def part(values: Values) -> str:
        value = values.get(name)
        return value if isinstance(value, str) else _written(name, value)

    return part


def _claim_or_nothing(name: str) -> _Part:
    claim = _claim(name)

    def part(values: Values) -> str:
        return "" if values.get(name) is None else claim(values)

    return part


def _choice(left: _Part, right: _Part, then: tuple[_Part, ...], otherwise: tuple[_Part, ...]) -> _Part:
    def part(values: Values) -> str:
        chosen = then if left(values) == right(values) else otherwise
        return "".join([piece(values) for piece in chosen])

    return part


def _written(name: str, value: object) -> str:
    """Write a claim that is not a string the way Go's %v does, where that is unambiguous."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if value is None:
        raise TokenClaimMissing(
            f"the token has no claim {name!r}, and its CI provider has no default for it",
            claim=name,
            expected="a string, number or boolean",
            received="no such claim",
        )
    raise TokenClaimInvalid(
        f"the token's claim {name!r} must be a string, number or boolean to stand in a certificate",
        claim=name,
        expected="a string, number or boolean",
        received="another type",
    )


class _Parser:
    """One pass over the source, which yields the parts and collects the names they ask for."""

    def __init__(self, source: str, *, needs_all: bool) -> None:
        self.names: set[str] = set()
        self._indexed = _claim if needs_all else _claim_or_nothing
        self._pieces = _ACTION.split(source)
        self._position = 0
        for text in self._pieces[::2]:
            if "{{" in text:
                raise ValueError("an action that begins with {{ is not closed by }}")

    def parse(self) -> tuple[_Part, ...]:
        parts, ended_by = self._sequence(depth=0)
        if ended_by:
            raise ValueError(f"there is an {ended_by} without its if")
        return parts

    def _sequence(self, depth: int) -> tuple[tuple[_Part, ...], str]:
        """Read up to `else`, `end` or the end of the source; returns the parts and which of these it was."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} ifs stand inside each other")
        parts: list[_Part] = []
        while self._position < len(self._pieces):
            piece, is_action = self._pieces[self._position], self._position % 2 == 1
            self._position += 1
            if not is_action:
                if piece:
                    parts.append(_literal(piece))
                continue
            words = piece.split()
            if words in (["else"], ["end"]):
                return tuple(parts), words[0]
            if words[:1] == ["if"]:
                parts.append(self._if(piece, depth))
            else:
                operands = self._operands(piece)
                if len(operands) != 1:
                    raise ValueError(f"the action {{{{{piece}}}}} is not one of those that are understood")
                parts.append(operands[0])
        return tuple(parts), ""

    def _if(self, action: str, depth: int) -> _Part:
        condition = re.fullmatch(r"\s*if\s+eq\b(.*)", action, re.DOTALL)
        operands = self._operands(condition.group(1), texts=True) if condition else []
        if len(operands) != 2:
            raise ValueError(f"a condition is written `if eq A B`, not {{{{{action}}}}}")
        then, ended_by = self._sequence(depth + 1)
        otherwise: tuple[_Part, ...] = ()
        if ended_by == "else":
            otherwise, ended_by = self._sequence(depth + 1)
        if ended_by != "end":
            raise ValueError("an if has no end")
        return _choice(operands[0], operands[1], then, otherwise)

    def _operands(self, text: str, *, texts: bool = False) -> list[_Part]:
        """Read fields, `index . "name"` with or without parentheses, and quoted texts where allowed."""
        tokens: list[tuple[str, str]] = []
        position, text = 0, text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise ValueError(f"{{{{{text}}}}} is not understood at {text[position:][:20]!r}")
            tokens.append((found.lastgroup, found.group(found.lastgroup)))
            position = found.end()
        operands: list[_Part] = []
        while tokens:
            operands.append(self._operand(tokens, texts=texts))
        return operands

    def _operand(self, tokens: list[tuple[str, str]], *, texts: bool) -> _Part:
        kind, word = tokens.pop(0)
        if kind == "field":
            return self._named(word[1:], _claim)
        if kind == "text" and texts:
            return _literal(_unquoted(word))
        if word == "(":
            inner = self._operand(tokens, texts=False)
            if not tokens or tokens.pop(0)[1] != ")":
                raise ValueError("a parenthesis is not closed")
            return inner
        # As in Go, index stands alone or in parentheses, never bare among the operands of eq.
        if (
            not texts
            and word == "index"
            and len(tokens) >= 2
            and tokens[0] == ("mark", ".")
            and tokens[1][0] == "text"
        ):
            del tokens[0]
            return self._named(_unquoted(tokens.pop(0)[1]), self._indexed)
        raise ValueError(f"{word!r} is not one of the actions that are understood")

    def _named(self, name: str, part: Callable[[str], _Part]) -> _Part:
        self.names.add(name)
        return part(name)


def _unquoted(token: str) -> str:
    return re.sub(r"\\(.)", r"\1", token[1:-1])
