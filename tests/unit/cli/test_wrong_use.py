"""What newcomers get wrong in commands, variables and issuers.yaml is one sentence each, and exit code 2."""

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Host, run

IDENTITY = ("revoke", "identity", "--identity", "ada@example.com")
ISSUER = "oidc-issuers:\n  https://accounts.example.com:\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start"], "No such command 'start'"),
        (["serve"], "Missing option '--config'. The settings file that `init` made (DIR/ca.toml)"),
        (["serve", "--config", "{config}", "--bind", "5555"], "expected HOST:PORT, such as 127.0.0.1:5555"),
        (["init", "--dir", "{new}", "--url", "ca.example.com"], "--url: expected an http or https URL"),
        ([*IDENTITY], "say where the authority is: --config FILE on its host, or --server URL"),
        ([*IDENTITY, "--config", "{config}", "--reason", "stolen"], "one of unspecified, keyCompromise"),
        ([*IDENTITY, "--config", "{config}", "--since", "yesterday"], "RFC 3339, like 2026-11-23T08:00:00Z"),
        (["revoke", "identity", "--config", "{config}"], "at least one selector, such as --identity"),
        (["revoke", "certificate", "zz", "--config", "{config}"], "a serial is written as hex digits"),
        (["find", "--config", "{config}", "--log-index", "5"], "expected SHARD:N, such as 2026:17"),
        (["find", "--server", "ca.example.com", "--identity", "x"], "expected an http or https URL"),
        (["export-trust", "--config", "{config}"], "Missing option '--out'"),
        (
            ["status", "{config}"],
            "holds no certificate; expected PEM, DER, a Sigstore bundle, or what cosign 2 or gitsign wrote",
        ),
        (
            ["migrate", "sqlite-to-postgresql", "--config", "{config}", "--to", "postgres://ca@db/ca"],
            "expected postgresql+psycopg:// where it begins with postgres://",
        ),
    ],
)
def test_a_wrong_command_line_says_what_was_expected(
    host: Host, tmp_path: Path, words: list[str], said: str
) -> None:
    told = run(*(word.format(config=host.config, new=tmp_path / "new") for word in words))
    assert told.exit_code == 2, told.output
    assert said in " ".join(told.stderr.split())
    assert "Traceback" not in told.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("oidc-issuers: [1, 2", "is neither YAML nor JSON"),
        ("oidc-issuers:\n\thttps://accounts.example.com: {}\n", "line 2, column 1"),
        ("issuers:\n  - https://accounts.example.com\n", "expected oidc-issuers or meta-issuers"),
        (ISSUER, "client-id is missing; expected the audience of its tokens, such as sigstore"),
        (ISSUER + "    {client-id: sigstore, type: oidc}\n", "type is 'oidc'; expected one of email,"),
        (
            ISSUER + "    {client-id: sigstore, type: email, issuer-url: 'https://accounts.example.org'}\n",
            "expected the URL it is listed under",
        ),
        (
            ISSUER + "    {client-id: sigstore, type: ci-provider, ci-provider: jenkins}\n",
            "ci-provider is 'jenkins', which is not defined",
        ),
        (ISSUER.replace("https://", "") + "    {client-id: sigstore, type: email}\n", "it has no host"),
    ],
)
def test_a_wrong_issuer_file_says_which_issuer_and_what_was_expected(
    host: Host, text: str, said: str
) -> None:
    (host.folder / "issuers.yaml").write_text(text)
    told = run("serve", "--config", host.config)
    assert told.exit_code == 2, told.output
    assert "issuers.yaml" in told.stderr
    assert said in told.stderr
    assert "Traceback" not in told.output


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CASVC_DATABASE_URL", "postgresql+psycopg://ca@db/ca", "the nearest is CASVC_DATABASE__URL"),
        ("CASVC_DATABASE__URL", "postgresql://ca:hunter2@db/ca", "expected postgresql+psycopg:// where"),
        ("CASVC_DATABASE__URL", "postgresql+psycopg://ca:hunter2@db:port/ca", "the port is a number"),
        (
            "CASVC_DATABASE__URL",
            "postgresql+psycopg://ca@db/ca?hunter2=1",
            "parameters of PostgreSQL's client",
        ),
        ("CASVC_REDIS__URL", "localhost:6379", "expected redis://HOST:PORT/0"),
        ("CASVC_REDIS__URL", "redis://:hun/ter2@cache:6379/0", "[redis] url from environment"),
        ("CASVC_SERVER__WORKERS", "two", "expected a valid integer, not 'two'"),
    ],
)
def test_a_wrong_variable_says_what_was_expected_and_shows_no_password(
    host: Host, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    for verb in ("serve", "migrate"):
        told = run(verb, "--config", host.config)
        assert told.exit_code == 2, told.output
        assert said in told.stderr
        assert "hunter" not in told.output
        assert "ter2" not in told.output
        assert "Traceback" not in told.output
