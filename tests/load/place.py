"""The service under load: as `ca-service serve` runs it, with its own database and identity providers."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.load.material import prepared
from tests.load.phases import Stage
from tests.support.issuer import LocalIssuer
from tests.support.postgres import LocalPostgres
from tests.support.processes import RunningService, production_service, running, succeed


@contextmanager
def stage(
    folder: Path,
    *,
    engine: str = "sqlite",
    workers: int,
    signers: int,
    issued: int,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """Start it with an issuer for signers and one for administrators, and prepare what is sent.

    The requests hold as many signers, and ask about as many certificates. `environ` are settings.
    """
    with ExitStack() as stack:
        issuer, staff = stack.enter_context(LocalIssuer()), stack.enter_context(LocalIssuer())
        service = production_service(folder / "ca", issuers=issuer.issuer_file(), workers=workers)
        service.environ = {**service.environ, "CASVC_LIMITS__IDENTITY_PER_MINUTE": "60000", **(environ or {})}
        if engine == "postgresql":
            _move(service, stack.enter_context(LocalPostgres(durable=True)).new_database())
        with service.config.open("a") as file:
            file.write(
                f'\n[[admin_role]]\nrole = "administrator"\nissuer = "{staff.url}"\n'
                'claims = {groups = "ca-administrator"}\n'
            )
        stack.enter_context(running(service))
        material = prepared(service, issuer, staff, signers=signers, issued=issued)
        yield Stage(service, material.write(folder / "material.json"), folder)


def _move(service: RunningService, database: str) -> None:
    """Make the authority again, on this database: one is chosen before `init`."""
    issuers = (service.directory / "issuers.yaml").read_text()
    service.directory.rename(service.directory.with_name("unused"))
    service.environ = {**service.environ, "CASVC_DATABASE__URL": database}
    succeed("init", "--dir", service.directory, "--url", service.url, environ=service.environ)
    (service.directory / "issuers.yaml").write_text(issuers)
