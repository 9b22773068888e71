"""The one place that reads the server's configuration: environment (`NANWATCH_…`) and arguments."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nanwatch_server.auth.origin import KnownHosts


def _default_data_dir() -> Path:
    return Path.home() / ".local" / "share" / "nanwatch"


class Settings(BaseSettings):
    """Everything that can be set. `nanwatch serve --data-dir X` is `Settings(data_dir=X)`."""

    model_config = SettingsConfigDict(env_prefix="NANWATCH_", extra="ignore", frozen=True)

    data_dir: Path = Field(default_factory=_default_data_dir)
    """Database, lock and server file; made with mode 0700."""
    database: SecretStr = SecretStr("")
    """`postgresql://user:password@host/name`; empty: SQLite in `data_dir`. The store checks it."""
    host: str = "127.0.0.1"
    port: int = Field(default=8787, ge=0, le=65535)
    """0: any free port."""
    allowed_hosts: tuple[str, ...] = ()
    """Other names the server answers for, as `name:port` or an origin like `https://name`."""
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    public_url: str = ""
    """Address under which people reach the pages, for links in notifications. Default: an origin
    of `allowed_hosts`, else the address that the server listens on."""
    allow_local_webhooks: bool = False
    """Notifications may go to this machine and to private networks (never to cloud metadata)."""
    idle_s: float = Field(default=0.0, ge=0.0)
    """End after so many seconds without a connection or request; 0: never."""
    tail_points: int = Field(default=20_000_000, ge=100_000)
    """Points kept in memory, over all runs (24 bytes each)."""

    retention_days: float = Field(default=0.0, ge=0.0)
    """Points are kept one by one so long, in projects without a rule of their own; 0: for ever.
    Summaries always stay."""
    backup_hour: int = Field(default=3, ge=0, le=23)
    """Local hour of the nightly backup."""
    backup_keep: int = Field(default=3, ge=0)
    """Nightly backups that are kept; 0: none are made."""
    backup_dir: Path | None = None
    """Where they lie. Default: `backups` in the data directory."""

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @field_validator("public_url")
    @classmethod
    def _public(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError(f"expected an address like https://name, got {url!r}")
        return url.rstrip("/")

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        KnownHosts(hosts)  # raises with what was expected
        return hosts
