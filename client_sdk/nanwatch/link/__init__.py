"""How records reach the server: spool on disk, one background thread, acknowledged delivery."""
