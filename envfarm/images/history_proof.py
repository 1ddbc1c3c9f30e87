"""Proof that a checkout's `.git` tells nothing beyond its one commit: the evidence of the leak gate.

Called by validation, on a box as the agent would get it. It must not repair what it finds.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from envfarm.core.protocols import Sandbox
from envfarm.core.sandbox import ExecRequest

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "head": ("rev-parse", "--verify", "HEAD"),
    "commits_beyond_head": ("rev-list", "--all", "--reflog", "--not", "HEAD"),
    "ancestors_of_head": ("rev-list", "HEAD^@"),
    "refs": ("for-each-ref", "--format=%(refname)"),
    "remotes": ("remote",),
    "remote_settings": ("config", "--local", "--get-regexp", r"^(remote|branch|submodule|url)\."),
    "reflog": ("reflog", "show", "--all", "--format=%H"),
    "unreachable": ("fsck", "--unreachable", "--no-reflogs", "--no-progress"),
    "objects": ("cat-file", "--batch-all-objects", "--batch-check=%(objecttype)"),
    "alternates": ("config", "--local", "--get-regexp", r"^(extensions\.partialclone|core\.alternate.*)$"),
    "status": ("status", "--porcelain", "--untracked-files=no"),
}
MAY_FIND_NOTHING = frozenset({"remote_settings", "alternates"})
"""`git config --get-regexp` says 1 where nothing matches."""
KNOWN = frozenset({"HEAD", "config", "index", "objects", "refs", "info", "description", "hooks", "branches", "logs", "packed-refs"})
"""What may stand in `.git`: no FETCH_HEAD, ORIG_HEAD, modules, worktrees, shallow or rr-cache."""
TIMEOUT_S = 300.0


class Answer(NamedTuple):
    """What one question's command said."""

    status: int | None
    text: str


async def history_proof(box: Sandbox, *, work_dir: str = "/testbed") -> dict[str, Any]:
    """Evidence from a box's own checkout, asked as the agent: `clean`, `findings`, and what each command said.

    Raises what the box's exec raises. Ask it before the agent was there: git inside the box is believed.
    """
    answers = {}
    for name, args in QUESTIONS.items():
        result = await box.exec(ExecRequest(argv=("git", "-C", work_dir, *args), env={"GIT_OPTIONAL_LOCKS": "0"}, timeout_s=TIMEOUT_S))
        answers[name] = Answer(result.exit_code, result.text if result.exit_code else result.stdout.decode(errors="replace"))
    listing = await box.exec(ExecRequest(argv=("sh", "-c", 'ls -A "$1"; ls -A "$1/objects/info"', "sh", f"{work_dir}/.git")))
    return judge(answers, listing.stdout.decode(errors="replace").split("\n"))


def judge(answers: Mapping[str, Answer], listing: list[str]) -> dict[str, Any]:
    """Findings from what git said and from the names in `.git` and `.git/objects/info`."""
    said = {name: answer.text.split("\n") for name, answer in answers.items()}
    lines = {name: [line for line in text if line.strip()] for name, text in said.items()}
    findings = [f"`git {' '.join(QUESTIONS[name])}` failed: {a.text.strip()[-200:]}" for name, a in answers.items() if _failed(name, a)]
    head = lines["head"][0] if lines["head"] else ""
    kinds = lines["objects"]
    for name in ("commits_beyond_head", "ancestors_of_head", "remotes", "unreachable"):
        findings += [f"{name}: {line}" for line in lines[name][:5] if not _failed(name, answers[name])]
    for name in MAY_FIND_NOTHING:
        findings += [f"{name}: {line}" for line in lines[name][:5] if answers[name].status == 0]
    findings += [f"reference: {ref}" for ref in lines["refs"] if ref != "refs/heads/main"][:5]
    findings += [f"reflog: {entry}" for entry in lines["reflog"] if entry != head][:5]
    if kinds.count("commit") != 1 or "tag" in kinds:
        findings.append(f"objects: {kinds.count('commit')} commits and {kinds.count('tag')} tags are stored")
    strangers = sorted(name for name in listing if name and name not in KNOWN and name not in ("packs", "commit-graph"))
    findings += [f"in .git: {name}" for name in strangers]
    return {
        "clean": not findings,
        "head": head,
        "findings": findings,
        "changed_by_installing": lines["status"][:20],
        "objects": {kind: kinds.count(kind) for kind in ("commit", "tree", "blob", "tag")},
        "asked": {name: " ".join(("git", *args)) for name, args in QUESTIONS.items()},
    }


def _failed(name: str, answer: Answer) -> bool:
    return answer.status != 0 and not (name in MAY_FIND_NOTHING and answer.status == 1)
