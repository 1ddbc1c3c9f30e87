"""What of the host's settings a build may see while its network is open: proxies, indexes, certificates. Pure but for a look at files.

Used by both builders, and by `envfarm doctor`. Nothing of it reaches an agent's box. Steps run strangers' code, so that nothing secret may
pass here: names that speak of secrets are left out by `envfarm.settings`, credentials in addresses here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

CERTIFICATE_NAMES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
USEFUL = re.compile(
    r"(HTTPS?|NO|ALL)_PROXY|(PIP|UV)_.*(INDEX|TIMEOUT|TRUSTED_HOST|INSECURE_HOST|RETRIES|PROXY|NATIVE_TLS|SYSTEM_CERTS).*"
    r"|NPM_CONFIG_(REGISTRY|PROXY|HTTPS_PROXY)|GOPROXY|GONOSUMDB|GOFLAGS|CARGO_(HTTP|NET|REGISTR).*",
    re.IGNORECASE,
)
"""Settings of where packages come from. Others (targets, caches, prefixes) would move what the steps make."""
CREDENTIALS = re.compile(r"(//|^|(?<=[\s,|=]))[^/\s]*@")
"""`user:password@` before a host, up to the last `@`: after `//`, or where an address without a scheme begins."""
LOOPBACK = re.compile(
    r"(?://|^|[\s,|=@])(?:localhost|[\w.-]+\.localhost|127(?:\.\d+){1,3}|0\.0\.0\.0|\[::1?\])\.?(?=[:/\s,|]|$)", re.IGNORECASE
)
NOT_ADDRESSES = re.compile(r"NO_PROXY|.*_HOST", re.IGNORECASE)
"""Settings that name hosts without anything being asked of them."""


class BuildVariables(NamedTuple):
    """Variables for a build, and the certificates that they speak of."""

    env: dict[str, str]
    certificates: Path | None
    """A PEM file of the host, to be seen in the build at the path that was asked for."""


def for_builds(variables: Mapping[str, str], *, certificates_at: str) -> BuildVariables:
    """Choose from the host's variables; `certificates_at` is where the build will see the host's certificate file.

    Values that are paths of the host mean nothing in a build, and are left out. Addresses lose their user and password.
    """
    useful = {name: value for name, value in variables.items() if USEFUL.fullmatch(name) and not value.startswith(("/", "file:"))}
    env = {name: CREDENTIALS.sub(r"\1", value) for name, value in useful.items()}
    for name in CERTIFICATE_NAMES:
        path = Path(variables.get(name, ""))
        if path.is_absolute() and path.is_file():
            return BuildVariables({**env, **dict.fromkeys(CERTIFICATE_NAMES, certificates_at)}, path)
    return BuildVariables(env, None)


def with_credentials(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the settings that builds get without the user and password in them."""
    return tuple(sorted(name for name, value in variables.items() if USEFUL.fullmatch(name) and CREDENTIALS.search(value)))


def on_loopback(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the settings whose address is this machine's loopback, which only what shares the machine's network can reach."""
    asked = {name: value for name, value in variables.items() if USEFUL.fullmatch(name) and not NOT_ADDRESSES.fullmatch(name)}
    return tuple(sorted(name for name, value in asked.items() if LOOPBACK.search(value)))
