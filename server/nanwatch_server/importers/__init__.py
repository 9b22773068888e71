"""Logs that others wrote, as rows of one step each and marks: one file here for each format.

`discover` finds what a path holds, `names` says what a column means, `rows` is what every format
gives. Nothing here judges or stores; `backtest` and the command line read from it.
"""
