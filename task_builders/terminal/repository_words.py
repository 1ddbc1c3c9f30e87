"""The parts of an instruction that are about a repository. Pure."""

from task_builders.questions.git_commands import Role
from task_builders.questions.repositories import FOLDER, SCRIPT
from task_builders.questions.understanding import Understood

OTHERS = (
    "The program is then run in other repositories: other names, files and commits, another number of them, merges, other work in progress."
)
MEANING = {
    Role.NEW: "the name that a new branch is to have",
    Role.BRANCH: "the name of a branch that is there",
    Role.UPSTREAM: "the name of a branch of a remote, as it is known in the repository",
    Role.COMMIT: "the hash of a commit",
    Role.FILE: "the path of a file",
    Role.MESSAGE: "a message for a commit",
}
STATE = (
    "What counts is the state in which it leaves the repository: which branch is checked out; where branches, tags and branches of\n"
    "remotes are, with the authors and messages of their commits; each stash with its files and message (git's own, `WIP on`, where it\n"
    "has no other); the index with what each file has there and how it is marked; each file of the work tree, tracked or not; each\n"
    "setting of a branch or a remote (`remote`, `merge`, `url`, `fetch`). Hashes and times do not count."
)
"""Contains every word that `starting.PRINT_STATE` prints of the state."""
PRINTED = (
    "What counts is what it prints to standard output. What git tells is in its own form: names, hashes, patches\n"
    "(`diff --git`, `index`, `---`, `+++`, `@@`)."
)


def to_write(understood: Understood, work_dir: str) -> str:
    """How the program is started, what the parameter files hold, and what counts."""
    counts = STATE if understood.state == "repository" else PRINTED
    parameters = "".join(f" `{work_dir}/{name}` holds {MEANING[role]}." for name, role in _parameters(understood))
    made = f"`sh {work_dir}/{SCRIPT}` makes the repository\n`{work_dir}/{FOLDER}` anew. After that the program is started in it,"
    return f"{made} without arguments, and ends with exit status 0.{parameters}\n\n{counts}"


def _parameters(understood: Understood) -> list[tuple[str, Role]]:
    """The files that ways read (those made by the script included), with the role of what each holds."""
    texts = " ".join(way.program.text for way in understood.solutions)
    found = [(f"{role.value}{number}", role) for role in MEANING for number in ("", *(f"-{n}" for n in range(2, 10)))]
    return [(name, role) for name, role in found if f"../{name})" in texts]
