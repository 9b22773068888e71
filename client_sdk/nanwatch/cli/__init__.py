"""The `nanwatch` command. Imports the server only inside the commands that need it."""
