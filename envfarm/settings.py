"""What the process environment says: the only reader of it. Handed to `envfarm.wiring`, which makes objects of it."""

import os
from pathlib import Path

from envfarm.core.errors import UsageError
from envfarm.core.frozen import Frozen


class Settings(Frozen):
    """Where things are kept, and what this machine may spend."""

    home: Path
    """Layers, blobs, boxes, the catalogue, runs and scaffolds. `ENVFARM_HOME`; /var/lib/envfarm for root, else ~/.local/share/envfarm."""
    parallel: int
    """Boxes at once. `ENVFARM_PARALLEL`; the number of CPUs that this process may use."""
    github_token: str = ""
    """`GITHUB_TOKEN`: raises the rate limit of the GitHub source."""
    stackexchange_key: str = ""
    """`STACKEXCHANGE_KEY`: raises the daily quota of the Stack Exchange API."""
    openai_api_key: str = ""
    """`OPENAI_API_KEY`: for chat policies that `envfarm run` plays here and for the task writer of `envfarm build`, at the address that is
    given there. No service sends it.
    """
    database: str = ""
    """`ENVFARM_DATABASE`: where runs and rollouts are kept, as `postgresql://…`; a SQLite file in the home where empty."""
    token_file: Path | None = None
    """`ENVFARM_TOKEN_FILE`: a file with the token of a service's operator, the same for all of its replicas; one is made where absent. For
    commands with `--server`, the token that they send."""
    policy_urls: tuple[str, ...] = ()
    """`ENVFARM_POLICY_URLS`, separated by commas: addresses of policies that tenants of a service may have called, and no others."""
    policy_keys: Path | None = None
    """`ENVFARM_POLICY_KEYS`: a TOML file with the keys that are sent to such addresses, each to its own."""
    kubernetes: Path | None = None
    """`ENVFARM_KUBERNETES`: a TOML file with the options of Kubernetes boxes (docs/kubernetes.md)."""
    registry: str = ""
    """`ENVFARM_REGISTRY`: where environments of pods are pushed to, `host[:port]/path`; before what the options of Kubernetes boxes say."""
    token: str = ""
    """`ENVFARM_TOKEN`: for a farm elsewhere (`--server`), before the one in `token_file`."""
    docker_config: Path | None = None
    """Docker's `config.json`, where `docker login` keeps what registries want. `DOCKER_CONFIG` names its directory; else ~/.docker."""
    tracing: bool = False
    """Whether OpenTelemetry's own variables name a collector: `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, and
    not `OTEL_SDK_DISABLED`. What else they say is the SDK's to read."""
    variables: dict[str, str] = {}
    """Proxy, index and certificate variables that builds pass on while the network is open. Never into an agent's box."""

    @property
    def layers(self) -> Path:
        """Unpacked layers, by digest."""
        return self.home / "layers"

    @property
    def toolchains(self) -> Path:
        """Interpreters that boxes see, by name and version."""
        return self.home / "toolchains"

    @property
    def blobs(self) -> Path:
        """Content-addressed files."""
        return self.home / "blobs"

    @property
    def catalogue(self) -> Path:
        """Task archives and their index."""
        return self.home / "catalogue"

    @property
    def runs(self) -> Path:
        """Episodes, trajectories and outcomes."""
        return self.home / "runs"

    @property
    def service(self) -> Path:
        """What a service keeps beside its database: the operator's token."""
        return self.home / "service"

    @property
    def sources(self) -> Path:
        """Fetched histories and records, and the pipeline's journal."""
        return self.home / "sources"

    @property
    def scaffolds(self) -> Path:
        """The operator's own scaffolds, a TOML file each."""
        return self.home / "scaffolds"

    @property
    def cache(self) -> Path:
        """Package caches of builds."""
        return self.home / "cache"


PASSED_ON = ("PIP_", "UV_", "npm_config_", "GOPROXY", "GONOSUMDB", "GOFLAGS", "CARGO_")
PASSED_ON_EXACT = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"})
SECRET_MARKS = ("TOKEN", "SECRET", "PASSWORD", "KEY", "AUTH")

COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def read() -> Settings:
    """Read the environment. Raises `UsageError` naming the variable that is wrong."""
    env = os.environ  # noqa: TID251 - this is the one reader
    default = Path("/var/lib/envfarm") if os.geteuid() == 0 else Path(env.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "envfarm"
    parallel = env.get("ENVFARM_PARALLEL", "")
    if parallel and not (parallel.isdigit() and int(parallel) > 0):
        raise UsageError(f"ENVFARM_PARALLEL is {parallel!r}: a whole number above 0 is needed", hint="unset it to use every CPU")
    return Settings(
        home=Path(env.get("ENVFARM_HOME") or default).absolute(),
        parallel=int(parallel) if parallel else len(os.sched_getaffinity(0)),
        github_token=env.get("GITHUB_TOKEN", ""),
        stackexchange_key=env.get("STACKEXCHANGE_KEY", ""),
        openai_api_key=env.get("OPENAI_API_KEY", ""),
        database=env.get("ENVFARM_DATABASE", ""),
        token_file=Path(env["ENVFARM_TOKEN_FILE"]).absolute() if env.get("ENVFARM_TOKEN_FILE") else None,
        policy_urls=tuple(filter(None, (url.strip() for url in env.get("ENVFARM_POLICY_URLS", "").split(",")))),
        policy_keys=Path(env["ENVFARM_POLICY_KEYS"]).absolute() if env.get("ENVFARM_POLICY_KEYS") else None,
        kubernetes=Path(env["ENVFARM_KUBERNETES"]).absolute() if env.get("ENVFARM_KUBERNETES") else None,
        registry=env.get("ENVFARM_REGISTRY", "").rstrip("/"),
        token=env.get("ENVFARM_TOKEN", ""),
        docker_config=Path(env.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json",
        tracing=any(env.get(name) for name in COLLECTORS) and env.get("OTEL_SDK_DISABLED", "").lower() != "true",
        variables={k: v for k, v in env.items() if _passed_on(k)},
    )


def _passed_on(name: str) -> bool:
    known = name.upper() in PASSED_ON_EXACT or name.startswith(PASSED_ON)
    return known and not any(mark in name.upper() for mark in SECRET_MARKS)
