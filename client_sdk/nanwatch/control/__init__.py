"""What people may do to a running training: commands, applied at the close of an attempt."""
