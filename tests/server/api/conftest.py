"""A real store, and a kit to put an app behind the gate on a real port."""

from tests.server.gatekit import server_kit, store

__all__ = ["server_kit", "store"]
