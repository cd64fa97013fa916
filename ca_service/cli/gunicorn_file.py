"""What deploy/gunicorn.conf.py gives to gunicorn: the options, and the service, that `serve` has too.

Gunicorn reads its file again on SIGHUP; what is made here is made once.
"""

import atexit
import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ca_service.cli.group import explained
from ca_service.errors import ConfigurationError
from ca_service.settings.reading import SETTINGS_FILE, load_settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from ca_service.cli.serve import Server


def gunicorn_settings() -> Mapping[str, object]:
    """Build the service of the settings file that CASVC_CONFIG names; its options for gunicorn, by name.

    What is wrong ends the process with a sentence on standard error, and exit code 2 or 3.
    """
    with explained():
        server = _server()
    return {**server.options, "wsgi_app": f"{__name__}:{application.__name__}()"}


def application() -> "WSGIApplication":
    """The WSGI application, for gunicorn to find by name."""
    return _server().application


@cache
def _server() -> "Server":
    from ca_service.cli.serve import prepared, production

    file = os.environ.get(SETTINGS_FILE)
    if not file:
        raise ConfigurationError(
            f"the environment variable {SETTINGS_FILE} is not set; it names the settings file that"
            " `ca-service init` made, such as /var/lib/ca-service/ca.toml"
        )
    settings = load_settings(Path(file), os.environ)
    kept = ExitStack()
    server = kept.enter_context(prepared(settings, lambda: production(settings)))
    # Workers leave through here as well; what is undone knows which process it belongs to.
    atexit.register(kept.close)
    return server
