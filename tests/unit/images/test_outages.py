"""An index that is down and a full disk are told from a recipe that cannot be had, by what installers say."""

from pathlib import Path

import pytest

from envfarm.core.errors import BuildOutage, ImageError
from envfarm.core.sandbox import Network
from envfarm.images.build_steps import step_failed
from envfarm.images.outages import outage_in

UV = "error: Request failed after 3 retries in 6.2s\n  cause: Failed to fetch: http://127.0.0.1:9/simple/made-up/\n"
OUTAGES = {
    "uv refused": UV + "  cause: client error (Connect)\n  cause: tcp connect error\n  cause: Connection refused (os error 111)",
    "uv names": UV + "  cause: client error (Connect)\n  cause: dns error\n  cause: error resolving DNS",
    "uv slow": UV + "  cause: operation timed out",
    "uv hung up": UV + "  cause: error sending request for url (http://x)\n  cause: connection closed before message completed",
    "uv cut": UV + "  cause: request or response body error\n  cause: error reading a body from connection\n",
    "uv 503": UV + "  cause: HTTP status server error (503 Service Unavailable) for url (http://x)",
    "uv 429": UV + "  cause: HTTP status client error (429 Too Many Requests) for url (http://x)",
    "older uv": "error: Failed to fetch: `http://x/`\n  Caused by: client error (Connect)\n  Caused by: dns error: failed to lookup",
    "pip": "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError': /simple/x/\n"
    "ERROR: No matching distribution found for x",
    "pip slow": "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x'): Read timed out.",
    "pip 502": "ERROR: HTTP error 502 while getting http://x/y.whl",
    "cargo": "warning: spurious network error (1 tries remaining): [6] Couldn't resolve host name",
    "apt": "Err:1 http://deb.example.org stable InRelease\n  Temporary failure resolving 'deb.example.org'",
    "apt 503": "E: Failed to fetch http://deb.example.org/pool/x.deb  503  Service Unavailable [IP: 192.0.2.1 80]",
    "git": "fatal: unable to access 'https://git.example.org/x/': Could not resolve host: git.example.org",
    "uv refused a page": "hint: An index URL (http://x/) could not be queried due to a lack of valid authentication credentials (401)",
    "uv forbade a page": "hint: An index (http://x/simple) returned a 403 Forbidden error.",
    "uv forbade a file": "  cause: HTTP status client error (403 Forbidden) for url (http://x/y.whl)",
    "pip refused a page": "WARNING: 401 Error, Credentials not correct for http://x/simple/y/\nERROR: No matching distribution found for y",
    "pip forbade a file": "ERROR: HTTP error 403 while getting http://x/y.whl",
    "apt forbade": "E: Failed to fetch http://deb.example.org/pool/x.deb  403  Forbidden [IP: 192.0.2.1 80]",
    "docker refused": 'Get "https://registry.example.org/v2/library/python/manifests/3.11": unauthorized: incorrect username or password',
    "registry": "received unexpected HTTP status: 500 Internal Server Error",
    "docker": "Get https://registry.example.org/v2/: dial tcp: lookup registry.example.org: no such host",
}
FULL_DISKS = {
    "uv full": "error: Failed to write to the cache\n  cause: failed to write to file `/cache/x`: No space left on device (os error 28)",
    "pip full": "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    "quota": "error: failed to create directory `/cache`\n  cause: Disk quota exceeded (os error 122)",
    "docker full": "failed to register layer: write /usr/lib/x: no space left on device",
}
OWN_FAULTS = {
    "unsatisfied": "No solution found when resolving dependencies\n cause: Because frob was not found in the package registry",
    "404": "error: Failed to fetch: http://x/y.whl\n  cause: HTTP status client error (404 Not Found) for url (http://x/y.whl)",
    "apt 404": "E: Failed to fetch http://deb.example.org/pool/x.deb  404  Not Found [IP: 192.0.2.1 80]",
    "pip bound": "ERROR: Could not find a version that satisfies the requirement x>=999 (from versions: 1.0)",
    "pip went on": "WARNING: Retrying (Retry(total=2, connect=None)) after connection broken\nerror: subprocess-exited-with-error",
    "own download": "urllib.error.URLError: <urlopen error [Errno 111] Connection refused>",
    "compiler": "fatal error: ffi.h: No such file or directory",
}


@pytest.mark.parametrize("said", [*OUTAGES.values(), *FULL_DISKS.values()], ids=[*OUTAGES, *FULL_DISKS])
def test_an_outage_is_seen_and_its_line_is_told(said: str, tmp_path: Path) -> None:
    error = step_failed("step 1 of 2", "status 2", f"Resolving …\n{said}\nbye", tmp_path / "log")
    assert isinstance(error, BuildOutage)
    assert "Resolving" not in str(error)
    assert "\n" not in str(error)
    assert "run the same command again" in error.hint


@pytest.mark.parametrize("said", OWN_FAULTS.values(), ids=list(OWN_FAULTS))
def test_what_is_the_recipes_own_fault_stays_so(said: str, tmp_path: Path) -> None:
    assert outage_in(said) is None
    assert not isinstance(step_failed("step 1 of 2", "status 2", said, tmp_path / "log"), BuildOutage)


@pytest.mark.parametrize("said", OUTAGES.values(), ids=list(OUTAGES))
def test_who_had_no_network_met_no_outage(said: str, tmp_path: Path) -> None:
    error = step_failed("step 1 of 2", "status 2", said, tmp_path / "log", Network.CLOSED)
    assert isinstance(error, ImageError)
    assert not isinstance(error, BuildOutage)


@pytest.mark.parametrize("said", FULL_DISKS.values(), ids=list(FULL_DISKS))
def test_a_full_disk_is_the_machines_without_a_network_too(said: str) -> None:
    assert "the machine's disk is full" in str(outage_in(said, Network.CLOSED))
