"""Selects the part of an agent's change that reaches the tests. Pure.

Dropped are files that decide what tests do, the sealed tests, and whatever leaves the work dir; in mode `replayed`, whatever is outside
the places that the plan names. A change is hostile data: nothing in it raises an error, and the dropped paths are returned.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection
from dataclasses import replace

from envfarm.core.change import Change, ChangedFile
from envfarm.core.plan import TestPlan
from envfarm.grading import globs
from envfarm.grading.integrity import Defence

NEVER = ("proc", "sys", "dev", "run", "boot", "tests", "logs", "solution", "usr", "bin", "sbin")
"""Folders of `/` that no change is carried into in any mode, like folders whose name begins with `lib`: root runs programs from them."""
NEVER_FILES = (
    *("etc/ld*", "etc/passwd*", "etc/group*", "etc/shadow*", "etc/gshadow*", "etc/sudoers*", "etc/pam*", "etc/security"),
    *("etc/environment", "etc/profile*", "etc/bash*", "etc/nsswitch.conf", "etc/alternatives", "etc/cron*", "var/spool/cron"),
)
"""Files that the loader, shells or programs that start processes trust, in places that a plan may name."""
PERMISSIONS = 0o777


def kept_part(plan: TestPlan, change: Change, defences: Collection[Defence]) -> tuple[Change, tuple[str, ...]]:
    """The change to apply, and the paths that were dropped from it, sorted."""
    rules = _Rules(plan, defences)
    files = tuple(replace(f, mode=f.mode & PERMISSIONS) for f in change.files if rules.keeps(f.path, f))
    paths = {f.path for f in files}
    links = {f.path for f in files if f.link is not None} if Defence.SAFE_PATHS in defences else set()
    files = tuple(f for f in files if not _below(f.path, links))
    deleted = tuple(p for p in change.deleted if rules.keeps(p, None) and p not in paths and not _below(p, links))
    kept = Change(files, deleted)
    dropped = sorted({*change.paths, *change.special} - set(kept.paths))
    return kept, tuple(dropped)


class _Rules:
    def __init__(self, plan: TestPlan, defences: Collection[Defence]) -> None:
        self.root = plan.work_dir.strip("/")
        self.carried_outside = globs.matcher(plan.carried_outside if plan.mode == "replayed" else ())
        self.never_outside = globs.matcher(NEVER_FILES)
        self.safe = Defence.SAFE_PATHS in defences
        self.sealed = frozenset(plan.test_files + plan.removed_files + id_files(plan)) if Defence.RESTORE_TESTS in defences else frozenset()
        self.above = frozenset(parent for path in self.sealed for parent in _parents(path))
        self.influences: Callable[[str], bool] = _nothing
        self.influences_outside: Callable[[str], bool] = _nothing
        if Defence.DROP_INFLUENCING in defences:
            self.influences = globs.matcher(plan.influencing)
            self.influences_outside = globs.matcher(plan.influencing_outside)

    def keeps(self, path: str, file: ChangedFile | None) -> bool:
        if self.safe and not _is_plain(path):
            return False
        below = path == self.root or not self.root or path.startswith(self.root + "/")
        if not below:
            return self._keeps_outside(path)
        if self.safe and not self.root and self._never(path):
            return False
        inner = path[len(self.root) :].strip("/")
        if self.safe and (not inner or ".git" in inner.split("/") or _leaves(path, file, self.root)):
            return False
        replaces_folder = inner in self.above and not (file is not None and file.is_dir)
        return inner not in self.sealed and not replaces_folder and not self.influences(inner)

    def _keeps_outside(self, path: str) -> bool:
        if not self.safe:
            return True
        # The work dir lies below other folders: files there, such as settings of a test runner, influence tests in it, too.
        influences = self.influences_outside(path) or self.influences(path)
        return self.carried_outside(path) and not influences and not self._never(path)

    def _never(self, path: str) -> bool:
        top = path.split("/", 1)[0]
        return top in NEVER or top.startswith("lib") or self.never_outside(path)


def _nothing(_path: str) -> bool:
    return False


def id_files(plan: TestPlan) -> tuple[str, ...]:
    """The files that the plan's test ids name, sorted."""
    return tuple(sorted({test.split("::", 1)[0] for test in plan.fail_to_pass + plan.pass_to_pass}))


def _is_plain(path: str) -> bool:
    return bool(path) and "\0" not in path and not any(part in ("", ".", "..") for part in path.split("/"))


def _leaves(path: str, file: ChangedFile | None, root: str) -> bool:
    if file is None or file.link is None:
        return False
    target = posixpath.normpath(posixpath.join("/" + posixpath.dirname(path), file.link))
    inside = target == "/" + root or target.startswith("/" + root + "/") or not root
    return not inside or ".git" in target.split("/")


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _below(path: str, links: Collection[str]) -> bool:
    return any(parent in links for parent in _parents(path))
