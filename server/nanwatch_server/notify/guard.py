"""Where messages may go: addresses are judged at the moment of connecting, whatever resolved them.

Installed in the courier's process only. A name that is looked up twice, a redirect, a decimal or
octal form of an address: all of them end in a `connect` to a number, and that number is judged.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any

LOCAL_SETTING = "NANWATCH_ALLOW_LOCAL_WEBHOOKS"

_METADATA = {
    ipaddress.ip_address(address)
    for address in ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "168.63.129.16")
}
"""Servers of clouds that hand out keys to whoever asks, besides the link-local one."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_FORBIDDEN = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "pty.spawn",
        "socket.bind",
        "socket.sendmsg",
        "socket.sendto",
        "subprocess.Popen",
    }
)
"""What nothing that sends a message needs."""


class RefusedError(OSError):
    """A connection that is not made; the text says why and what to do."""


def trouble(address: str, *, allow_local: bool) -> str:
    """Why no message may go to this address; empty if it may.

    `address` is a number, not a name. Without `allow_local` only addresses of the public internet
    pass; addresses that cannot be a receiver and those of cloud metadata never do.
    """
    try:
        ip = _plain(ipaddress.ip_address(address.split("%", 1)[0]))
    except ValueError:
        return f"expected a numeric address, got {address[:64]!r}"
    if ip in _METADATA or ip.is_link_local:
        return f"{ip} is a link-local or cloud metadata address: nothing is ever sent there"
    if ip.is_multicast or ip.is_unspecified or (ip.version == 4 and ip.is_reserved):
        return f"{ip} is not the address of one machine: nothing is ever sent there"
    if ip.is_global or allow_local:
        return ""
    what = "this machine itself" if ip.is_loopback else "a private network"
    return (
        f"{ip} is an address of {what}, and sending there is off. If that is meant (ntfy or mail "
        f"on your own network), start the server with {LOCAL_SETTING}=1 (or --allow-local-webhooks)"
    )


def _plain(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Any:
    """The IPv4 address that an IPv6 one stands for, else itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


Resolve = Callable[..., Iterable[tuple[Any, ...]]]


def host_trouble(host: str, *, allow_local: bool, resolve: Resolve = socket.getaddrinfo) -> str:
    """Why no message may go to this host, by what its name stands for now; empty if it may.

    A name that cannot be resolved passes: it may come to be. Connecting is judged again.
    """
    try:
        found = {row[4][0] for row in resolve(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return ""
    for address in sorted(map(str, found)):
        if said := trouble(address, allow_local=allow_local):
            return said if host == address else f"{host} stands for {address}: {said}"
    return ""


class Guard:
    """Judges every connection of this process from `install` on; it cannot be taken off."""

    def __init__(self, *, allow_local: bool) -> None:
        self._allow_local = allow_local
        self.refused: list[str] = []
        """Why connections were refused since the list was last cleared."""

    def install(self) -> None:
        """From now on, in every thread, for whichever library connects."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect":
            self._judge(args[1])
        elif event in _FORBIDDEN:
            self._refuse(f"{event} is not allowed while a message is sent")

    def _judge(self, address: Any) -> None:
        if not isinstance(address, tuple) or not isinstance(address[0], str):
            self._refuse("expected a connection over TCP")
        elif said := trouble(address[0], allow_local=self._allow_local):
            self._refuse(said)

    def _refuse(self, said: str) -> None:
        self.refused.append(said)
        raise RefusedError(said)
