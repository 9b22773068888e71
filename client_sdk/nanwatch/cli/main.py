"""Entry point of the `nanwatch` command: the list of subcommands, nothing else."""

from __future__ import annotations

import sys

import typer

import nanwatch
from nanwatch.cli import (
    check,
    db_care,
    demo,
    diagnose,
    doctor,
    export,
    import_runs,
    launch,
    login,
    notify,
    runs,
    send,
    serve,
    sync,
)
from nanwatch.cli.output import fail
from nanwatch.config import BadDirectory

app = typer.Typer(
    name="nanwatch",
    help="Watch a PyTorch training live: what goes wrong, since when, why, and what to try.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("run", context_settings={"allow_interspersed_args": False})(launch.run)
app.command("sync")(sync.sync)
app.command("send")(send.send)
app.command("check")(check.check)
app.command("import")(import_runs.import_)
app.command("export")(export.export)
app.command("doctor")(doctor.doctor)
app.command("diagnose")(diagnose.diagnose)
app.command("demo")(demo.demo)
app.command("login")(login.login)
app.add_typer(db_care.app, name="db")
app.add_typer(runs.app, name="runs")
app.add_typer(notify.app, name="notify")


@app.command("version")
def version() -> None:
    """Print the version."""
    print(nanwatch.__version__)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except BadDirectory as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
