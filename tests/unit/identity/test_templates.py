"""Claim templates: the part of Go's text/template that issuer files use, and nothing else."""

import pytest

from ca_service.errors import TokenClaimInvalid, TokenClaimMissing
from ca_service.identity.templates import Template

RENDERED: dict[str, tuple[str, dict[str, object], str]] = {
    "a bare word": ("sha", {"sha": "abc"}, "abc"),
    "a bare word with dots and slashes": (
        "oidc.circleci.com/vcs-ref",
        {"oidc.circleci.com/vcs-ref": "main"},
        "main",
    ),
    "a bare word with a blank": ("my claim", {"my claim": "x"}, "x"),
    "text around claims": ("{{ .url }}/{{ .ref }}#x", {"url": "https://e", "ref": "r"}, "https://e/r#x"),
    "without blanks": ("{{.url}}{{.ref}}", {"url": "a", "ref": "b"}, "ab"),
    "index": ('<{{index . "a.b/c-d"}}>', {"a.b/c-d": "x"}, "<x>"),
    "index in parentheses": ('{{(index . "a/b")}}', {"a/b": "x"}, "x"),
    "a field in parentheses": ("{{ (.a) }}", {"a": "x"}, "x"),
    "if, met": (
        'refs/{{if eq .t "branch"}}heads/{{ else }}tags/{{end}}{{ .r }}',
        {"t": "branch", "r": "m"},
        "refs/heads/m",
    ),
    "if, not met": (
        'refs/{{if eq .t "branch"}}heads/{{ else }}tags/{{end}}{{ .r }}',
        {"t": "tag", "r": "v1"},
        "refs/tags/v1",
    ),
    "if without else": ('{{if eq .t "x"}}y{{end}}', {"t": "z"}, ""),
    "if on a boolean by index": (
        '{{if eq (index . "s/r") "true"}}yes{{ else }}""{{end}}',
        {"s/r": False},
        '""',
    ),
    "if on two claims": ("{{ if eq .a .b }}same{{ else }}other{{ end }}", {"a": 1, "b": "1"}, "same"),
    "ifs inside each other": (
        '{{if eq .a "1"}}{{if eq .b "2"}}both{{else}}a{{end}}{{else}}none{{end}}',
        {"a": "1", "b": "3"},
        "a",
    ),
    "an unmet branch may lack its claims": ('{{if eq .a "1"}}{{ .b }}{{end}}!', {"a": "2"}, "!"),
    "a quoted text with escapes": ('{{if eq .a "x\\"\\\\y"}}ok{{end}}', {"a": 'x"\\y'}, "ok"),
    "an integer": ("{{ .n }}", {"n": 12345678901234567890}, "12345678901234567890"),
    "a number without a fraction": ("{{ .n }}", {"n": 1e15}, "1000000000000000"),
    "a number with a fraction": ("{{ .n }}", {"n": 1.5}, "1.5"),
    "booleans": ("{{ .a }}{{ .b }}", {"a": True, "b": False}, "truefalse"),
    "an empty claim": ("{{ .a }}", {"a": ""}, ""),
    "markup is left alone": ("{{ .a }}", {"a": "<&\"'>"}, "<&\"'>"),
}


@pytest.mark.parametrize("case", sorted(RENDERED))
def test_what_a_template_renders(case: str) -> None:
    source, values, expected = RENDERED[case]
    assert Template.parse(source).render(values) == expected


REFUSED = {
    "empty": " ",
    "not closed": "a{{ .b",
    "not opened": "a }} b",
    "nothing in it": "{{ }}",
    "dot alone": "{{ . }}",
    "a nested field": "{{ .a.b }}",
    "two operands": "{{ .a .b }}",
    "a variable": "{{ $x }}",
    "a pipe": "{{ .a | printf }}",
    "a function": '{{ printf "%s" .a }}',
    "a text alone": '{{ "a" }}',
    "a number": "{{ 1 }}",
    "trim marks": "{{- .a -}}",
    "a comment": "{{/* a */}}",
    "range": "{{ range .a }}{{ end }}",
    "with": "{{ with .a }}{{ end }}",
    "if without eq": "{{ if .a }}x{{ end }}",
    "if ne": '{{ if ne .a "b" }}x{{ end }}',
    "else if": '{{ if eq .a "b" }}x{{ else if eq .a "c" }}y{{ end }}',
    "if without end": '{{ if eq .a "b" }}x',
    "else without if": "{{ else }}",
    "two elses": '{{ if eq .a "b" }}x{{ else }}y{{ else }}z{{ end }}',
    "end without if": "{{ .a }}{{ end }}",
    "eq with one operand": "{{ if eq .a }}x{{ end }}",
    "eq with three operands": "{{ if eq .a .b .c }}x{{ end }}",
    "a bare index in eq": '{{ if eq index . "a" "b" }}x{{ end }}',
    "index of two": '{{ index . "a" "b" }}',
    "index of a field": '{{ index .a "b" }}',
    "index without a name": "{{ index . }}",
    "a parenthesis left open": '{{ (index . "a" }}',
    "a raw text": "{{ index . `a` }}",
    "an odd escape": '{{ index . "\\x41" }}',
    "hundreds of ifs": '{{if eq .a "b"}}' * 500 + "{{end}}" * 500,
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_is_outside_the_subset_is_refused_when_the_file_is_loaded(case: str) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        Template.parse(REFUSED[case])


BY_INDEX = {
    '<{{ index . "gone" }}>': "<>",
    '{{ if eq (index . "gone") "" }}none{{ else }}some{{ end }}': "none",
    '{{ if eq (index . "gone") "a" }}some{{ end }}': "",
}


@pytest.mark.parametrize("source", ["gone", "{{ .gone }}", '{{ if eq .gone "a" }}b{{ end }}', *BY_INDEX])
@pytest.mark.parametrize("values", [{}, {"gone": None}])
def test_a_missing_claim_is_named(source: str, values: dict[str, object]) -> None:
    with pytest.raises(TokenClaimMissing) as raised:
        Template.parse(source, needs_all=True).render(values)
    assert raised.value.facts["claim"] == "gone"
    assert "'gone'" in raised.value.message


@pytest.mark.parametrize(("source", "text"), BY_INDEX.items())
@pytest.mark.parametrize("values", [{}, {"gone": None}])
def test_what_index_does_not_find_is_empty_as_in_go(
    source: str, text: str, values: dict[str, object]
) -> None:
    """CircleCI's tokens lack some claims, and Fulcio's file has no defaults for them."""
    assert Template.parse(source).render(values) == text


@pytest.mark.parametrize("value", [["a"], {"a": "b"}])
def test_lists_and_objects_do_not_go_into_a_certificate(value: object) -> None:
    with pytest.raises(TokenClaimInvalid):
        Template.parse("{{ .a }}").render({"a": value})


def test_a_template_knows_the_claims_it_asks_for() -> None:
    template = Template.parse('{{ .a }}{{if eq (index . "b/c") "d"}}{{ .e }}{{end}}')
    assert template.names == {"a", "b/c", "e"}
