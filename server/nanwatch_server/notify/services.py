"""Services that messages may go to: the schemes of apprise that are let through, and how an address
is shown without its secrets. Pure; read by the server and by the courier.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

URL_CHARS_MAX = 2_000


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HOSTED = _words(
    """azure discord dingtalk feishu gchat ifttt lark line mailgun o365 opsgenie pagerduty pbul
    pover sendgrid ses slack sns tgram twilio wecombot workflow workflows wxteams zulip"""
)

OWN_HOST = _words(
    """apprise apprises form forms gotify gotifys hassio hassios json jsons mailto mailtos matrix
    matrixs mmost mmosts ntfy ntfys rocket rockets signal signals xml xmls"""
)
"""Schemes whose address names the host itself."""

SCHEMES = HOSTED | OWN_HOST
"""Not among them: what acts on the server's own machine, is not TCP, or opens files."""

SHOWS_HOST = (OWN_HOST | {"http", "https"}) - {"ntfy", "ntfys"}
"""Schemes in which that place never holds a secret (a topic of ntfy does)."""

MARKDOWN = _words("slack discord workflow workflows")
"""Services that get Markdown; the others get plain text, which none of them reads as markup."""

MARKDOWN_TITLE = MARKDOWN - {"slack"}
"""Those that read it in titles too."""

REFUSED_OPTIONS = _words(
    """attach attach-as filename keyfile optional pgpprv pgppub redirect retry store subfile
    template wait wkd"""
)
"""Options of apprise that open files, follow redirects, or call a failure a success."""

WEBHOOK = "Signed webhook"


def scheme_of(url: str) -> str:
    """In lower case; empty if there is none."""
    scheme, mark, _ = url.partition("://")
    return scheme.lower() if mark else ""


def url_trouble(url: str) -> str:
    """Why this cannot be the address of a channel, without asking anybody; empty if it may be."""
    if not url or len(url) > URL_CHARS_MAX or not url.isprintable() or " " in url:
        return f"expected an address of 1 to {URL_CHARS_MAX} visible characters without spaces"
    scheme = scheme_of(url)
    if scheme not in SCHEMES and scheme not in ("http", "https"):
        return (
            "expected https://… (a webhook) or the apprise address of one of "
            f"{', '.join(sorted(SCHEMES))}, got {scheme[:20] or 'no scheme'!r}"
        )
    options = {name.lower() for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    if refused := sorted(options & REFUSED_OPTIONS):
        return f"the option {refused[0]}= is not allowed here: leave it out"
    return ""


def shown(url: str) -> str:
    """Scheme, and host where it is no secret; everything else is left out."""
    scheme = scheme_of(url)
    host = host_of(url) if scheme in SHOWS_HOST else ""
    return f"{scheme}://{host}/…" if host else f"{scheme}://…"


def host_of(url: str) -> str:
    """Host of the address, in lower case; empty if it has none that can be read."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def secrets_of(url: str) -> list[str]:
    """Pieces of the address that must not be in any text, the longest first."""
    rest = url.partition("://")[2]
    pieces = {one for text in (rest, unquote(rest)) for one in re.split(r"[^\w.~%+-]+", text)}
    known = {scheme_of(url), host_of(url)}
    return sorted((one for one in pieces - known if len(one) >= 5), key=len, reverse=True)
