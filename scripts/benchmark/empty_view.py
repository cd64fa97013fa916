"""The least a view costs under our gunicorn: python -m scripts.benchmark.empty_view CONFIG BIND WORKERS."""

import os
import sys
from pathlib import Path

from flask import Flask, Response

from ca_service.cli.server import ServerApplication, server_options
from ca_service.settings import load_settings
from ca_service.settings.reading import with_values


def application() -> Flask:
    """One view that answers a few octets, and the readiness that the harness waits for."""
    app = Flask(__name__)

    @app.get("/empty")
    def empty() -> Response:
        return Response(b"empty")

    @app.get("/readyz")
    def ready() -> Response:
        return Response(b"ready")

    return app


if __name__ == "__main__":
    config, bind, workers = sys.argv[1:]
    settings = with_values(
        load_settings(Path(config), os.environ),
        {"server.bind": bind, "server.workers": int(workers)},
        "bench",
    )
    nothing = lambda: None  # noqa: E731 - hooks that do nothing
    ServerApplication(
        application(), server_options(settings, after_fork=nothing, close=nothing, reload=nothing)
    ).run()
