"""What commands with `--server` send: to which farm, and whose token. Called by commands alone."""

from pathlib import Path

from envfarm.core.errors import UsageError
from envfarm.settings import Settings

HINT = "ENVFARM_TOKEN=… or ENVFARM_TOKEN_FILE=…; the farm's operator hands tokens out"


def address(url: str) -> str:
    """A farm's address, as `--server` may be given it. Raises `UsageError`."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--server {url}: an address begins with http:// or https://", hint="for example --server http://127.0.0.1:8700")
    return url


def token(settings: Settings) -> str:
    """The token to send. Raises `UsageError` where there is none."""
    if settings.token:
        return settings.token
    if settings.token_file is None:
        raise UsageError("a farm elsewhere wants a token, and none is set", hint=HINT)
    return _read(settings.token_file)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the token cannot be read: {e}", hint=HINT) from e
