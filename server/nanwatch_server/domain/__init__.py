"""Pure data and ports of the server. Imports nothing of ours but the wire contract."""
