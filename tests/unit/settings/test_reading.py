"""Settings come from a file and the environment, and nothing unknown or contradictory passes."""

from pathlib import Path

import pytest

from ca_service.errors import ConfigurationError
from ca_service.settings import load_settings
from ca_service.settings.reading import environment_name, setting_names, shown, with_values
from ca_service.settings.rendering import EXAMPLE, settings_file

FIXED = """
[service]
url = "http://127.0.0.1:5555"
status_url = "http://127.0.0.1:5555"
[log]
shard = "2026"
origin = "127.0.0.1:5555/ctlog/2026"
key = "private/log-2026.key"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.toml"
    path.write_text(FIXED)
    return path


def test_the_environment_wins_over_the_file_and_each_source_is_known(file: Path) -> None:
    file.write_text(FIXED + "[server]\nworkers = 3\nthreads = 8\n")
    settings = load_settings(file, {"CASVC_SERVER__WORKERS": "4", "HOME": "/root"})
    assert (settings.server.workers, settings.server.threads) == (4, 8)
    assert settings.origin.sources["server.workers"] == "environment CASVC_SERVER__WORKERS"
    assert settings.origin.sources["server.threads"] == "file"
    assert "server.bind" not in settings.origin.sources


def test_relative_paths_start_at_the_folder_of_the_file(file: Path) -> None:
    settings = load_settings(file, {"CASVC_AUTHORITY__KEY": "/elsewhere/issuing.key"})
    assert settings.folder == file.parent
    assert settings.issuers == file.parent / "issuers.yaml"
    assert settings.log.key == file.parent / "private/log-2026.key"
    assert str(settings.authority.key) == "/elsewhere/issuing.key"


def test_every_setting_can_come_from_the_environment_alone(tmp_path: Path) -> None:
    empty = tmp_path / "ca.toml"
    empty.write_text("")
    environ = {environment_name(name): str(value) for name, value in EXAMPLE.items()}
    settings = load_settings(empty, environ | {"CASVC_OIDC__PRIVATE_NETWORKS": "127.0.0.0/8, fd00::/8"})
    assert settings.oidc.private_networks == ("127.0.0.0/8", "fd00::/8")
    assert settings.service.url == EXAMPLE["service.url"]


def test_a_changed_setting_is_checked_again_and_says_who_changed_it(file: Path) -> None:
    settings = load_settings(file, {})
    changed = with_values(settings, {"server.bind": "127.0.0.1:6000"}, "command line --bind")
    assert changed.server.bind == "127.0.0.1:6000"
    assert changed.origin.sources["server.bind"] == "command line --bind"
    assert changed.log.key == settings.log.key
    with pytest.raises(
        ConfigurationError, match=r"\[server\] bind from command line --bind: expected HOST:PORT"
    ):
        with_values(settings, {"server.bind": "nowhere"}, "command line --bind")


def test_a_misspelt_name_is_refused_with_the_nearest_one(file: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"CASVC_SERVER__WORKRES is no setting; .* CASVC_SERVER__WORKERS"
    ):
        load_settings(file, {"CASVC_SERVER__WORKRES": "2"})
    file.write_text(FIXED + "[crl]\nvalid_hour = 10\n")
    with pytest.raises(ConfigurationError, match=r"\[crl\] valid_hour in .*ca.toml .* \[crl\] valid_hours"):
        load_settings(file, {})
    file.write_text(FIXED + "[sever]\nworkers = 1\n")
    with pytest.raises(ConfigurationError, match=r"the table \[server\]"):
        load_settings(file, {})


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("[server]\nworkers = 'many'", r"\[server\] workers in .*: expected a valid integer, not 'many'"),
        ("[authority]\nclient_keys = []", r"client_keys .*: expected a list that is not empty, not \[\]"),
        ("[authority]\nlifetime_seconds = 29", r"lifetime_seconds .* greater than or equal to 30, not 29"),
        ("[authority]\nlifetime_seconds = 86401", r"less than or equal to 86400"),
        ("[crl]\nvalid_hours = 12\nrefresh_hours = 12", r"refresh_hours .* less than \[crl\] valid_hours"),
        ("[metrics]\nbind = '127.0.0.1:5555'", r"\[metrics\] bind .* another port than \[server\] bind"),
        ("[authority]\nkey = 'private/log-2026.key'", r"\[log\] key .* another file"),
        ("[authority]\nclient_keys = ['dsa']", r"\[authority\] client_keys .* 'ecdsa-p256'"),
        ("[oidc]\nprivate_networks = ['localhost']", r"\[oidc\] private_networks .* address ranges"),
        ("[keys]\npassphrase = 'x'", r"CASVC_KEYS__PASSPHRASE"),
        ("[ocsp", r"not valid TOML"),
        ("[server]\nport = 80", r"\[server\] port .* is no setting; it may be .*bind, .*workers;"),
        ("[server]\ntrusted_proxies = '10.0.0.0/8'", r"trusted_proxies .* expected a list, such as \["),
        ("[database]\nurl = 'postgres://ca@db/ca'", r"expected postgresql\+psycopg:// where it begins with"),
        ("[redis]\nurl = 'redis://:a/b@cache:6379/0'", r"\[redis\] url in .*, and @ : / % in the password"),
        ("[redis]\nurl = 'redis://cache:port/0'", r"\[redis\] url in .*a number for its port"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_expected(file: Path, lines: str, sentence: str) -> None:
    file.write_text(FIXED + lines)
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings(file, {})


def test_a_file_in_another_encoding_is_refused_with_its_line(file: Path) -> None:
    file.write_bytes(f"{FIXED}# fine\n# Größe\n".encode("latin-1"))
    line = FIXED.count("\n") + 2
    with pytest.raises(
        ConfigurationError, match=rf"is UTF-8: line {line} has other octets; save it as UTF-8"
    ):
        load_settings(file, {})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CASVC_SERVICE__URL", "https://ca.example.com/", "without a slash at its end"),
        ("CASVC_SERVICE__URL", "https://ca.example.com/ca", "without a path"),
        ("CASVC_SERVICE__URL", "https://user@ca.example.com", "no user name"),
        ("CASVC_SERVICE__URL", "https://ca.example.com:99999", "host name"),
        ("CASVC_SERVICE__STATUS_URL", "https://ca.example.com", "plain http"),
        ("CASVC_LOG__ORIGIN", "https://ca.example.com/ctlog/2026", "without scheme"),
        ("CASVC_LOG__SHARD", "2026/a", "part of URLs"),
    ],
)
def test_addresses_that_clients_could_not_use_are_refused(
    file: Path, name: str, value: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        load_settings(file, {name: value})
    assert name in str(caught.value)


def test_a_missing_setting_says_how_to_give_it(tmp_path: Path) -> None:
    empty = tmp_path / "ca.toml"
    empty.write_text("")
    with pytest.raises(ConfigurationError, match=r"\[service\] url is missing .* CASVC_SERVICE__URL"):
        load_settings(empty, {})
    with pytest.raises(ConfigurationError, match="ca-service init"):
        load_settings(tmp_path / "none.toml", {})


def test_no_password_is_ever_shown(file: Path) -> None:
    environ = {
        "CASVC_DATABASE__URL": "postgresql+psycopg://ca:hunter2@db/ca",
        "CASVC_REDIS__URL": "redis://:hunter2@cache:6379/0",
        "CASVC_KEYS__PASSPHRASE": "hunter2",
    }
    settings = load_settings(file, environ)
    seen = repr(settings) + " ".join(shown(settings, name) for name in settings.origin.sources if name != "x")
    assert "hunter2" not in " ".join(shown(settings, name) for name in setting_names())
    assert "postgresql+psycopg://ca:***@db/ca" in seen
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, environ | {"CASVC_DATABASE__URL": "mysql://ca:hunter2@db/ca"})
    assert "hunter2" not in str(caught.value)


def test_two_passphrases_are_refused_since_nobody_could_say_which_opens_the_keys(file: Path) -> None:
    environ = {"CASVC_KEYS__PASSPHRASE": "a", "CASVC_KEYS__PASSPHRASE_FILE": "b"}
    with pytest.raises(ConfigurationError, match=r"\[keys\] passphrase_file .* nothing beside"):
        load_settings(file, environ)


def test_a_rendered_settings_file_reads_back_as_the_defaults(tmp_path: Path) -> None:
    rendered = tmp_path / "ca.toml"
    rendered.write_text(settings_file(EXAMPLE))
    plain = load_settings(rendered, {})
    everything = tmp_path / "everything.toml"
    uncommented = [
        line.removeprefix("# ") if line.startswith("# ") and (" = " in line or "[[" in line) else line
        for line in settings_file(EXAMPLE).splitlines()
    ]
    lists = uncommented.index("[[issuer_policy]]")
    everything.write_text("\n".join(uncommented[:lists]))
    assert load_settings(everything, {}).model_dump() == plain.model_dump()
    # A list of tables has no default to show, but an example.
    everything.write_text("\n".join(uncommented))
    (policy,) = load_settings(everything, {}).issuer_policy
    assert policy.issuer == "https://accounts.example.com"
    assert policy.required_claims == {"hd": ("example.com",), "groups": ("signers", "release")}
    (rule,) = load_settings(everything, {}).admin_role
    assert (rule.role, rule.claims) == ("revoker", {"groups": ("ca-revokers",)})


POLICY = '[[issuer_policy]]\nissuer = "https://idp.example.com"\n'


def test_issuer_policies_come_from_the_file_or_the_environment(file: Path) -> None:
    file.write_text(FIXED + POLICY + 'required_claims = {hd = "example.com", level = [2, true]}\n')
    (written,) = load_settings(file, {}).issuer_policy
    assert written.required_claims == {"hd": ("example.com",), "level": (2, True)}
    given = '[{"issuer": "https://other.example.com", "strict_audience": true}]'
    changed = load_settings(file, {"CASVC_ISSUER_POLICY": given})
    assert [(one.issuer, one.strict_audience) for one in changed.issuer_policy] == [
        ("https://other.example.com", True)
    ]
    assert shown(changed, "issuer_policy") == "https://other.example.com"
    assert with_values(changed, {"server.workers": 2}, "test").issuer_policy == changed.issuer_policy


def test_an_issuer_policy_may_be_spelt_as_in_the_issuer_file(file: Path) -> None:
    file.write_text(
        FIXED
        + POLICY
        + 'required-claims = {hd-x = "a"}\nallowed-email-domains = ["a.b"]\nstrict-audience = true\n'
    )
    (policy,) = load_settings(file, {}).issuer_policy
    assert (policy.required_claims, policy.allowed_email_domains, policy.strict_audience) == (
        {"hd-x": ("a",)},
        ("a.b",),
        True,
    )
    file.write_text(FIXED + POLICY + "strict-audience = true\nstrict_audience = false\n")
    with pytest.raises(ConfigurationError, match="strict-audience is no setting"):
        load_settings(file, {})


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            POLICY + "strict_audiences = true",
            "number 1 in .*ca.toml: strict_audiences is no setting; .*claims",
        ),
        (POLICY + "[[issuer_policy]]\nstrict_audience = true", "number 2 in .*: issuer is missing"),
        (
            POLICY + "required_claims = {hd = 2026-01-01}",
            "number 1 .*required_claims hd: expected a text, num",
        ),
        (POLICY + "required_claims = {hd = []}", "number 1 .*required_claims hd: expected a text, number"),
        (POLICY + "required_claims = 1", "number 1 .*required_claims: expected"),
        (POLICY + 'strict_audience = "perhaps"', "number 1 .*strict_audience: expected a valid boolean"),
        (POLICY.replace("[[", "[").replace("]]", "]"), "expected a list of tables"),
    ],
)
def test_a_wrong_issuer_policy_is_refused_with_its_place(file: Path, lines: str, sentence: str) -> None:
    file.write_text(FIXED + lines)
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings(file, {})


ROLE = '[[admin_role]]\nissuer = "https://idp.example.com"\n'


def test_roles_of_administrators_come_from_the_file_or_the_environment(file: Path) -> None:
    file.write_text(FIXED + ROLE + 'role = "viewer"\nclaims = {groups = ["ops", "security"]}\n')
    (written,) = load_settings(file, {}).admin_role
    assert (written.role, written.claims) == ("viewer", {"groups": ("ops", "security")})
    given = '[{"issuer": "https://other.example.com", "role": "revoker", "claims": {"sub": "7"}}]'
    changed = load_settings(file, {"CASVC_ADMIN_ROLE": given})
    assert shown(changed, "admin_role") == "revoker of https://other.example.com"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        # A rule without a claim would make everybody whom the provider knows an administrator.
        (ROLE + 'role = "viewer"', "number 1 in .*ca.toml: claims is missing"),
        (ROLE + 'role = "viewer"\nclaims = {}', "number 1 .*claims: expected a table of one or more claims"),
        (ROLE + 'role = "viewer"\nclaims = {groups = []}', "number 1 .*claims groups: expected a text"),
        (ROLE + 'role = "root"\nclaims = {sub = "1"}', "number 1 .*role: expected 'viewer', 'revoker' or"),
        (
            ROLE + 'role = "viewer"\nroles = 1\nclaims = {sub = "1"}',
            "roles is no setting; expected one of role",
        ),
        ('[admin]\naudience = "sigstore"', r"\[admin\] audience .*another audience than sigstore"),
        ('[admin]\nscopes = ["email"]', r"\[admin\] scopes .*openid among them"),
    ],
)
def test_a_wrong_rule_of_administration_is_refused(file: Path, lines: str, sentence: str) -> None:
    file.write_text(FIXED + lines)
    with pytest.raises(ConfigurationError, match=sentence):
        load_settings(file, {})
