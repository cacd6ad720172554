"""Refuse what another web site makes a browser send: the browser would add the password that it knows."""

from flask import request

from errors import CrossSite

_DEFAULT_PORTS = (":80", ":443")


def refuse_other_sites() -> None:
    """Refuse a POST that another web site sent. Raises CrossSite.

    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
    """
    if request.method != "POST":
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        is_other = site not in ("same-origin", "none")
    else:
        # Of `null`, which a page without an origin sends, nothing is left.
        is_other = origin is not None and _host(origin.partition("://")[2]) != _host(request.headers.get("Host", ""))
    if is_other:
        raise CrossSite


def _host(text: str) -> str:
    host = text.lower()
    return next((host.removesuffix(port) for port in _DEFAULT_PORTS if host.endswith(port)), host)
