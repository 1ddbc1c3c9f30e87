"""A task's name for people: the project, and a few letters drawn from the content. Pure."""

import base64
import hashlib
import re

from envfarm.core.candidate import Candidate

LETTERS = 8
"""40 bits: two of a million tasks of one project share a name with less than one chance in two."""


def task_name(candidate: Candidate) -> str:
    """`org/project-letters`. It carries no issue's number and no commit's hash: both would tell where the fix is to be found."""
    content = f"{candidate.instruction}\0{candidate.source_patch}\0{candidate.test_patch}"
    letters = base64.b32encode(hashlib.sha256(content.encode(errors="surrogateescape")).digest()).decode().lower()[:LETTERS]
    organisation, _, project = candidate.name.rpartition("/")
    return f"{_slug(organisation) or 'local'}/{_slug(project) or 'project'}-{letters}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
