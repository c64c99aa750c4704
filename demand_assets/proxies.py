"""Which proxy a request goes through, as the environment says: HTTPS_PROXY, HTTP_PROXY, NO_PROXY.

A proxy cannot reach this machine, so requests to it never go through one.
"""

import ipaddress
from urllib.parse import unquote, urlsplit

import urllib3
from requests.utils import get_environ_proxies, select_proxy

SETTINGS = "HTTPS_PROXY, HTTP_PROXY and NO_PROXY"


def is_this_machine(url: str) -> bool:
    """Whether the host of a URL is a name or an address of the loopback interface."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost" or host.endswith(".localhost")


def proxy_of(url: str) -> tuple[str, dict[str, str]] | None:
    """The proxy of a URL, without credentials, and the headers for it; None if there is none."""
    proxy = None if is_this_machine(url) else select_proxy(url, get_environ_proxies(url))
    if not proxy:
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    headers = {}
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=login)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", dict(headers)
