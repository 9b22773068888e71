"""Detection: blocks of numbers in, findings out. Pure: no I/O, no clock, no threads."""
