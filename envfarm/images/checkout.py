"""A commit's checkout as one archive: its tree, and a fresh `.git` that holds this one tree and nothing else of the repository.

Single files of a checkout, too. Called by task builders when they mint, and by the layer builders' tests. Leak-free by construction:
the new `.git` is made from the objects of one tree, so no other commit, tag, remote or reflog can be in it. It must never copy a `.git`.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from envfarm.core.errors import SourceError
from envfarm.images.git_program import Git
from envfarm.images.scratch import scratch_directory
from envfarm.images.tarball import Entry, pack

PERSON = "envfarm <envfarm@localhost>"
MESSAGE = "Start"
FILES_AT_ONCE = 200
GIT_CONFIG = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n"
KEEP_EVERYTHING = "* -export-ignore -export-subst -filter\n"
"""In `.git/info/attributes`, which stands above every `.gitattributes`: the archive is what a checkout would be, not a release."""


def checkout_archive(repository: Path, commit: str, *, work_dir: str = "/testbed") -> bytes:
    """The commit's tree at `work_dir`, with a fresh `.git`, as a tar archive rooted at `/`; the same bytes each time.

    Links are kept, submodules are empty directories, LFS pointers stay pointers, line ends are as git checks them out. Owner is the
    agent (uid and gid 1000), every time is the commit's own. Raises `SourceError` when the repository does not have the commit.
    """
    with scratch_directory() as scratch:
        source = Git(repository)
        tree = _tree_of(source, commit)
        commit_time_s = int(source.run("log", "-1", "--no-show-signature", "--format=%ct", commit))
        fresh = scratch / "tree.git"
        _fresh_git(source, tree, commit_time_s, fresh=fresh, scratch=scratch)
        root = work_dir.strip("/")
        entries = [Entry(root, 0o755), *_files(fresh, tree, root, scratch=scratch), *_git_entries(fresh, f"{root}/.git")]
        return pack(entries, mtime_s=commit_time_s)


def files_checked_out(repository: Path, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
    """The contents of these files of a commit as in its checkout; of a link, its target. Raises `SourceError` if one is missing."""
    found: dict[str, bytes] = {}
    with scratch_directory() as scratch:
        source = Git(repository)
        tree = _tree_of(source, commit)
        objects = repository / source.run("rev-parse", "--git-path", "objects").decode().strip()
        fresh = scratch / "bare.git"
        _make_bare(fresh)
        env = {"GIT_DIR": str(fresh), "GIT_OBJECT_DIRECTORY": str(objects.resolve()), "GIT_LITERAL_PATHSPECS": "1"}
        for start in range(0, len(paths), FILES_AT_ONCE):
            entries = _archived(tree, *paths[start : start + FILES_AT_ONCE], env=env, fresh=fresh, scratch=scratch)
            found |= {entry.path: entry.link.encode(errors="surrogateescape") if entry.link else entry.content or b"" for entry in entries}
    return {path: found[path] for path in paths}


def _tree_of(source: Git, commit: str) -> str:
    if commit.startswith("-"):
        raise SourceError(f"{commit!r} is not a commit")
    return source.run("rev-parse", "--verify", f"{commit}^{{tree}}").decode().strip()


def _make_bare(fresh: Path) -> None:
    for folder in ("objects/pack", "objects/info", "refs/heads", "refs/tags", "info"):
        (fresh / folder).mkdir(parents=True)
    (fresh / "HEAD").write_text("ref: refs/heads/main\n")
    (fresh / "config").write_text(GIT_CONFIG)


def _fresh_git(source: Git, tree: str, time_s: int, *, fresh: Path, scratch: Path) -> None:
    """A bare repository of one commit: no template, no hooks, nothing copied but the tree's objects."""
    _make_bare(fresh)
    objects = source.run("rev-list", "--objects", "--no-object-names", tree)
    # Deltas depend on what the source has packed and on threads: without them the pack is the same bytes each time.
    packed = source.run("pack-objects", "-q", "--window=0", "--threads=1", "--no-reuse-object", "--stdout", stdin=objects)
    git = Git(scratch)
    env = {"GIT_DIR": str(fresh), "GIT_INDEX_FILE": str(fresh / "index")}
    git.run("index-pack", "--stdin", stdin=packed, env=env)
    body = f"tree {tree}\nauthor {PERSON} {time_s} +0000\ncommitter {PERSON} {time_s} +0000\n\n{MESSAGE}\n"
    head = git.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=body.encode(), env=env).decode().strip()
    (fresh / "refs/heads/main").write_text(head + "\n")
    git.run("read-tree", tree, env=env)


def _files(fresh: Path, tree: str, root: str, *, scratch: Path) -> Iterator[Entry]:
    """The tree's files as git would check them out."""
    for entry in _archived(tree, env={"GIT_DIR": str(fresh)}, fresh=fresh, scratch=scratch):
        yield replace(entry, path=f"{root}/{entry.path}")


def _archived(tree: str, *paths: str, env: Mapping[str, str], fresh: Path, scratch: Path) -> Iterator[Entry]:
    """What git would check out of the tree, or of these paths of it."""
    attributes = fresh / "info/attributes"
    attributes.write_text(KEEP_EVERYTHING)
    archive = Git(scratch).run("archive", "--format=tar", tree, "--", *paths, env=env)
    attributes.unlink()
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        for info in tar:
            path = info.name.strip("/")
            if info.issym():
                yield Entry(path, link=info.linkname)
            elif info.isdir():
                yield Entry(path, 0o755)
            else:
                file = tar.extractfile(info)
                yield Entry(path, 0o755 if info.mode & 0o100 else 0o644, content=file.read() if file else b"")


def _git_entries(fresh: Path, root: str) -> Iterator[Entry]:
    yield Entry(root, 0o755)
    for path in fresh.rglob("*"):
        inside = path.relative_to(fresh)
        if path.is_dir():
            yield Entry(f"{root}/{inside}", 0o755)
        else:
            # Objects are written once and never changed: git itself makes them read-only.
            mode = 0o444 if inside.parts[0] == "objects" else 0o644
            yield Entry(f"{root}/{inside}", mode, content=path.read_bytes())
