"""The address and the token for commands with `--server`."""

from pathlib import Path

from envfarm.core.errors import UsageError
from envfarm.settings import Settings

HINT = "set ENVFARM_TOKEN or ENVFARM_TOKEN_FILE; the farm's operator issues tokens"


def address(url: str) -> str:
    """Check a `--server` address. Raises `UsageError`."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(
            f"--server {url}: the address must begin with http:// or https://", hint="for example --server http://127.0.0.1:8700"
        )
    return url


def token(settings: Settings) -> str:
    """The token to send. Raises `UsageError` if none is set."""
    if settings.token:
        return settings.token
    if settings.token_file is None:
        raise UsageError("--server needs a token, and none is set", hint=HINT)
    return _read(settings.token_file)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the token file cannot be read: {e}", hint=HINT) from e
