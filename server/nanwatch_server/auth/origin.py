"""Which `Host` and `Origin` headers are the server's own; pure, called by the gate."""

from __future__ import annotations

from collections.abc import Iterable

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORT = {"http": 80, "https": 443}


class KnownHosts:
    """The hosts this server answers for: loopback names with its own port, and configured ones.

    A configured host is `name:port` (`name` alone for the scheme's own port), or an origin such as
    `https://name` when a proxy in front of the server speaks TLS for it.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._fixed: dict[str, str] = {}
        for entry in allowed:
            scheme, mark, host = entry.strip().lower().rpartition("://")
            if not host or set(host) & set("/ \t@?#") or (mark and scheme not in _DEFAULT_PORT):
                raise ValueError(
                    f"allowed host {entry!r}: expected name:port, or an origin like https://name"
                )
            self._fixed[host] = f"{scheme}://{host}" if mark else ""

    def own_origin(self, host: str, scheme: str, port: int | None) -> str | None:
        """The server's own origin as seen under this `Host` header; None if it is not ours."""
        host = host.lower()
        if host in self._fixed:
            return self._fixed[host] or f"{scheme}://{host}"
        if port is not None and host in _loopback(scheme, port):
            return f"{scheme}://{host}"
        return None

    def expected(self, scheme: str, port: int | None) -> str:
        """The hosts that would have been taken, as text for a message."""
        names = () if port is None else _loopback(scheme, port)
        return ", ".join([*names, *self._fixed])


def _loopback(scheme: str, port: int) -> tuple[str, ...]:
    bare = LOOPBACK_NAMES if _DEFAULT_PORT.get(scheme) == port else ()
    return (*bare, *(f"{name}:{port}" for name in LOOPBACK_NAMES))
