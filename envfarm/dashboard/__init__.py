"""The dashboard: one page at `/`, in plain HTML, CSS and JavaScript modules, that reads the public API with the viewer's token.

This package serves static files and nothing else: no data, no token, no endpoint of its own.
"""

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""Text from tasks and agents is shown as text. Should that ever fail, this policy keeps it from running, loading or calling anything."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
FILES = {
    "/": ("index.html", "text/html"),
    "/docs": ("index.html", "text/html"),
    "/dashboard/app.js": ("app.js", "text/javascript"),
    "/dashboard/dom.js": ("dom.js", "text/javascript"),
    "/dashboard/farm.js": ("farm.js", "text/javascript"),
    "/dashboard/style.css": ("style.css", "text/css"),
    "/dashboard/icon.svg": ("icon.svg", "image/svg+xml"),
}


def install(app: FastAPI) -> None:
    """Add the page to an application."""
    for path, (name, media_type) in FILES.items():
        app.add_api_route(path, _sender(STATIC / name, media_type), include_in_schema=False, response_class=FileResponse)


def _sender(file: Path, media_type: str) -> Callable[[], FileResponse]:
    def send() -> FileResponse:
        return FileResponse(file, media_type=media_type, headers=HEADERS)

    return send
