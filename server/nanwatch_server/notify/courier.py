"""A process of its own that sends messages: `python -m nanwatch_server.notify.courier`.

Apart from the server so that apprise's 200 plugins, time-outs, large answers and wrong certificates
cost it nothing, proxies and `.netrc` of the environment do not matter, and the guard of addresses
binds whatever library connects. One JSON job a line on stdin, one JSON answer a line on stdout; it
ends when stdin does. Started by `channels` alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import sys
import time
from contextlib import suppress
from typing import IO, Any

from nanwatch_server.notify import services
from nanwatch_server.notify.guard import Guard, RefusedError, host_trouble

CONNECT_S, ANSWER_S = 5.0, 10.0
MEMORY_MAX = 1 << 30
ERROR_CHARS_MAX = 300
_REASON = re.compile(r"\[Errno -?\d+\] ([\w ,]+)|certificate verify failed|timed out")
SEE = "(docs/notifications.md has an example of each)"


class Courier:
    """Does jobs one after the other."""

    def __init__(self, *, allow_local: bool) -> None:
        import apprise
        from apprise.common import PersistentStoreMode
        from apprise.manager_plugins import NotificationManager

        self._apprise = apprise
        self._plugins = NotificationManager()
        self._plugins.enable_only(*services.SCHEMES)
        self._asset = apprise.AppriseAsset(
            app_id="nanwatch",
            app_desc="nanwatch",
            app_url="",
            image_url_mask=False,
            image_url_logo="",
            async_mode=False,
            http_redirects=False,
            allow_templates=False,
            pem_autogen=False,
            pgp_autogen=False,
            secure_logging=True,
            storage_mode=PersistentStoreMode.MEMORY,
        )
        self._said: list[str] = []
        logger = logging.getLogger("apprise")
        logger.handlers, logger.propagate = [_Collect(self._said)], False
        logger.setLevel(logging.DEBUG)
        self._allow_local = allow_local
        self._guard = Guard(allow_local=allow_local)
        self._guard.install()

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """The answer to one job; never raises."""
        self._said.clear()
        self._guard.refused.clear()
        try:
            return self._check(job["url"]) if job["op"] == "check" else self._send(job)
        except Exception as error:
            return self._failed(job["url"], f"{type(error).__name__}: {error}")

    # --- is it an address? --------------------------------------------------------------------

    def _check(self, url: str) -> dict[str, Any]:
        said = services.url_trouble(url)
        if said:
            return {"ok": False, "error": said}
        plugin = self._plugin(url)
        webhook = plugin is None and services.scheme_of(url) in ("http", "https")
        if plugin is None and not webhook:
            return self._failed(url, f"this is no {services.scheme_of(url)}:// address {SEE}:")
        if webhook or services.scheme_of(url) in services.OWN_HOST:
            host = services.host_of(url)
            said = host_trouble(host, allow_local=self._allow_local) if host else ""
            if said or (webhook and not host):
                return {"ok": False, "error": said or "expected a host in the address"}
        if plugin is None:
            return {"ok": True, "service": services.WEBHOOK, "shown": services.shown(url)}
        own = url if services.scheme_of(url) in services.SCHEMES else plugin.url()
        return {"ok": True, "service": str(plugin.service_name), "shown": services.shown(own)}

    def _plugin(self, url: str) -> Any:
        """The service of apprise for this address; None if there is none (a webhook of ours)."""
        if services.scheme_of(url) in ("http", "https"):
            # `https://hooks.slack.com/…` as the service shows it; else it is not apprise's.
            native = (plugin.parse_native_url(url) for plugin in self._plugins.plugins())
            if not any(found and found.get("schema") in services.SCHEMES for found in native):
                return None
        return self._apprise.Apprise.instantiate(url, asset=self._asset)

    # --- sending ------------------------------------------------------------------------------

    def _send(self, job: dict[str, Any]) -> dict[str, Any]:
        url, message = job["url"], job["message"]
        plugin = self._plugin(url)
        if plugin is None:
            if services.scheme_of(url) not in ("http", "https"):
                return self._failed(url, "apprise cannot read this address any more")
            return self._post(job)
        marked = services.MARKDOWN.intersection(plugin.schemas())
        in_title = services.MARKDOWN_TITLE.intersection(marked)
        done = plugin.notify(
            title=message["marked_title" if in_title else "title"],
            body=message["markdown"] if marked else message["plain"],
            body_format="markdown" if marked else "text",
            notify_type=message["level"],
        )
        return {"ok": True} if done else self._failed(url, "")

    def _post(self, job: dict[str, Any]) -> dict[str, Any]:
        """Our own webhook, signed as https://www.standardwebhooks.com says."""
        import requests

        key, sent_at = job["key"], int(time.time())
        body = {"version": 1, "id": key, "sent_at": sent_at, **job["message"]["data"]}
        body["text"] = f"{job['message']['title']}\n{job['message']['plain']}"
        data = json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "nanwatch",
            "Webhook-Id": key,
            "Webhook-Timestamp": str(sent_at),
            "Webhook-Signature": signature(job["secret"], key, sent_at, data),
        }
        try:
            with requests.post(
                job["url"],
                data=data,
                headers=headers,
                timeout=(CONNECT_S, ANSWER_S),
                allow_redirects=False,
                stream=True,  # what it answers is never read
            ) as answer:
                status, wait = answer.status_code, answer.headers.get("Retry-After", "")
        except requests.exceptions.SSLError:
            return self._failed(job["url"], "the certificate of the host is not trusted")
        except requests.exceptions.Timeout:
            return self._failed(job["url"], f"no answer within {ANSWER_S:g} s")
        except requests.exceptions.RequestException as error:
            return self._failed(job["url"], f"cannot connect ({_innermost(error)})")
        if 200 <= status < 300:
            return {"ok": True}
        said = f"it answered {status}"
        if 300 <= status < 400:
            said += ": redirects are not followed, give the final address"
        return self._failed(job["url"], said) | _retry_after(status, wait)

    def _failed(self, url: str, said: str) -> dict[str, Any]:
        """Why, without anything secret."""
        if self._guard.refused:
            return {"ok": False, "error": self._guard.refused[0]}
        text = " ".join(" ".join([said, *self._said]).split()) or "the service did not take it"
        for secret in services.secrets_of(url):
            text = text.replace(secret, "…")
        return {"ok": False, "error": text[:ERROR_CHARS_MAX]}


class _Collect(logging.Handler):
    """What apprise says of a failure."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._into = said

    def emit(self, record: logging.LogRecord) -> None:
        """Warnings, and the reason why a connection failed (which it calls debug)."""
        with suppress(Exception):
            text = record.getMessage()
            if record.levelno >= logging.WARNING:
                self._into.append(text)
            elif text.startswith("Socket Exception") and (found := _REASON.search(text)):
                self._into.append(f"({found[1] or found[0]})")


def signature(secret: str, key: str, sent_at: int, body: bytes) -> str:
    """`v1,` and the base64 HMAC-SHA256 of id, time and body, by the key behind `whsec_`."""
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{key}.{sent_at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()


def _retry_after(status: int, wait: str) -> dict[str, float]:
    if status in (429, 503) and wait.strip().isdecimal():
        return {"retry_after_s": float(min(int(wait), 3600))}
    return {}


def _innermost(error: BaseException) -> str:
    """The operating system's own words, which hold no address of ours."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror and not isinstance(seen, RefusedError):
            return seen.strerror
        inner = getattr(seen, "reason", None) or (seen.args[0] if seen.args else None)
        seen = seen.__cause__ or seen.__context__ or (
            inner if isinstance(inner, BaseException) else None
        )  # fmt: skip
    return "the connection failed"


def _limit() -> None:
    """Bounds of this process, where the system has them."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(jobs: IO[str], answers: IO[str], *, allow_local: bool) -> None:
    """Until the server closes the pipe, or is gone."""
    _limit()
    courier = Courier(allow_local=allow_local)
    for line in jobs:
        answers.write(json.dumps(courier.do(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    with suppress(BrokenPipeError, KeyboardInterrupt):
        main(sys.stdin, own, allow_local="--allow-local" in sys.argv)
