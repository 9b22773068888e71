"""`python -m nanwatch` is the `nanwatch` command."""

from nanwatch.cli.main import main

main()
