"""Where everything is joined: settings in, the service and its Flask application out.

No other room knows more than its neighbours below. Rules, SQL and HTTP live elsewhere; here is only which
part is handed to which.
"""

from ca_service.app.service import Service, build_service, create_app

__all__ = ["Service", "build_service", "create_app"]
