"""The page: files built from `web/`, compressed at build, hashed names cached for ever.

Every path that is no file gets `index.html`, because the page has its own routes; a missing asset
is 404, so that a browser never takes HTML for a script of an older build.
"""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse

from nanwatch_server.auth.gate import requires

router = APIRouter()

STATIC = Path(__file__).parent.parent / "static"

CSP = (
    "default-src 'none'; script-src 'self'; style-src-elem 'self'; "
    "style-src-attr 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
_UNBUILT = """<!doctype html><meta charset="utf-8"><title>nanwatch</title>
<h1>nanwatch is running, its page is not built</h1>
<p>Build it with <code>python hatch_build.py</code> in the source folder, or install a wheel.</p>"""


@router.get("/{path:path}", include_in_schema=False)
@router.head("/{path:path}", include_in_schema=False)
@requires("public")
def page(path: str, request: Request) -> Response:
    """A file of the page, or the page itself."""
    files: dict[str, Path] = request.app.state.static_files
    file = files.get(path) or files.get("index.html")
    if file is None:
        return HTMLResponse(_UNBUILT)
    if path.startswith("assets/") and path not in files:
        return Response(status_code=404)
    hashed = path in files and path.startswith("assets/")
    headers = {
        "cache-control": "public, max-age=31536000, immutable" if hashed else "no-cache",
        "vary": "Accept-Encoding",
    }
    media = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    accepted = request.headers.get("accept-encoding", "")
    for name, suffix in _ENCODINGS:
        packed = file.with_name(file.name + suffix)
        if name in accepted and packed.is_file():
            return FileResponse(
                packed, headers=headers | {"content-encoding": name}, media_type=media
            )
    return FileResponse(file, headers=headers, media_type=media)


def static_files(root: Path = STATIC) -> dict[str, Path]:
    """Every file that may be served, by its path: nothing else is ever opened."""
    if not (root / "index.html").is_file():
        return {}
    return {
        path.relative_to(root).as_posix(): path
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".br", ".gz") and not path.name.startswith(".")
    }
