"""The /etc of local boxes: generated files, and a chosen few of the base system or the host."""

import shutil
from pathlib import Path

from envfarm.core.sandbox import Network
from envfarm.sandboxes.local_plan import HOME
from envfarm.sandboxes.local_stage import IN_BOX_ID

MADE_UP = {
    "passwd": f"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:{IN_BOX_ID}:{IN_BOX_ID}:agent:{HOME}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": f"root:x:0:\nagent:x:{IN_BOX_ID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost box\n::1 localhost\n",
    "hostname": "box\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "gitconfig": "[safe]\n\tdirectory = *\n",
    "shells": "/bin/sh\n/bin/bash\n",
}
FROM_HOST = (
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "services",
    "protocols",
    "mime.types",
    "ssl/openssl.cnf",
    "bash.bashrc",
    "debian_version",
)
FROM_HOST_WHEN_OPEN = (
    "resolv.conf",
    "hosts",
    "ssl",
    "pki",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "apt",
    "dpkg",
    "gai.conf",
)
CERTIFICATES = ("ssl", "pki")
PUBLIC = (
    Path("/usr/share/ca-certificates"),
    Path("/usr/local/share/ca-certificates"),
    Path("/etc/ca-certificates"),
    Path("/etc/pki/ca-trust"),
)
"""Where certificates of certificate authorities are, which everyone may read."""
PRIVATE = ("private", "*.key", "auth.conf", "auth.conf.d")


def make(place: Path, network: Network, base: Path | None = None, *, source: Path = Path("/etc")) -> Path:
    """Fill `place` anew, and return it. `base` is a base system's tree; without one, the host's files are used.

    Files that the host lacks, or that may not be read, are left out.
    """
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, mode=0o755)
    if base is not None:
        _copy(base / "etc", place)
    else:
        for name in FROM_HOST:
            _copy(source / name, place / name)
    for name in FROM_HOST_WHEN_OPEN if network is Network.OPEN else ():
        _copy(source / name, place / name)
    for name in CERTIFICATES if base is not None else ():
        _follow_links(place / name)
    for name, text in MADE_UP.items():
        if not (place / name).exists():
            (place / name).write_text(text)
    os_release = place / "os-release"
    if not os_release.is_symlink():
        os_release.symlink_to("../usr/lib/os-release")
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
    return place


def _follow_links(folder: Path) -> None:
    """Replace absolute links by copies if they lead to public certificates (which a base system lacks); remove all others."""
    for link in [path for path in folder.rglob("*") if path.is_symlink() and path.readlink().is_absolute()]:
        leads_to = link.resolve()
        link.unlink()
        if any(leads_to.is_relative_to(tree) for tree in PUBLIC) and leads_to.is_file() and leads_to.stat().st_mode & 0o004:
            shutil.copyfile(leads_to, link)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if source.is_dir():
            ignore = shutil.ignore_patterns(*PRIVATE)
            shutil.copytree(source, target, symlinks=True, ignore=ignore, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        elif source.is_file():  # links are followed: resolv.conf often is one into /run
            shutil.copyfile(source, target)
    except (shutil.Error, PermissionError):
        return
