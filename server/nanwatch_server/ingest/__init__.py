"""Training processes come in here: socket, checks, group commit, acks."""
