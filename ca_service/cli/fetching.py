"""Asking over HTTP as a verifier does: bounded in time and size, no redirects."""

import requests

_SECONDS = 10
_LONGEST_ANSWER = 64 * 1024 * 1024
_CHUNK = 65536


class Refused(ValueError):
    """The server answered, but not with what was asked for; `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        """Take a sentence and the status."""
        super().__init__(message)
        self.status = status


def fetch(url: str, body: bytes | None = None, content_type: str | None = None) -> bytes:
    """GET a URL, or POST a body to it; raises requests.RequestException, and Refused for anything but 200."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    method = "GET" if body is None else "POST"
    with requests.request(
        method, url, data=body, headers=headers, timeout=_SECONDS, allow_redirects=False, stream=True
    ) as reply:
        if reply.status_code != 200:
            raise Refused(f"it answered {reply.status_code}", reply.status_code)
        content = bytearray()
        for chunk in reply.iter_content(_CHUNK):
            content += chunk
            if len(content) > _LONGEST_ANSWER:
                raise Refused("the answer is too long", reply.status_code)
        return bytes(content)
