"""A task's name for people: the project, and a few letters derived from the content. Pure."""

import base64
import hashlib
import re

from envfarm.core.candidate import Candidate

LETTERS = 8
"""40 bits: with a million tasks of one project, the probability is below one half that any two share a name."""


def task_name(candidate: Candidate) -> str:
    """`org/project-letters`, without an issue's number or a commit's hash, which would lead to the fix."""
    content = f"{candidate.instruction}\0{candidate.source_patch}\0{candidate.test_patch}"
    letters = base64.b32encode(hashlib.sha256(content.encode(errors="surrogateescape")).digest()).decode().lower()[:LETTERS]
    organisation, _, project = candidate.name.rpartition("/")
    return f"{_slug(organisation) or 'local'}/{_slug(project) or 'project'}-{letters}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
