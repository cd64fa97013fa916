"""ca-service under a gunicorn of your own, with what `ca-service serve` runs with:

    CASVC_CONFIG=/var/lib/ca-service/ca.toml gunicorn --config gunicorn.conf.py

The options are not written here a second time: they come from ca.toml and from the program, which knows what
it needs. That is the service loaded once and forked into one worker for each core, no control socket, limits
for request lines and headers, requests finished when a worker stops, workers replaced after a million
requests and some, metrics, TLS, and SIGHUP. The settings are in [server], [metrics] and [logging] of ca.toml,
or CASVC_SERVER__WORKERS and the like; where gunicorn's command line says something else, it does not start.
"""

from ca_service.cli.gunicorn_file import gunicorn_settings

globals().update(gunicorn_settings())
