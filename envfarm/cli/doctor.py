"""`envfarm doctor`: what this machine can do, why not, and what to do about it."""

import sys

import click

from envfarm.cli import console
from envfarm.sandboxes.capabilities import probe
from envfarm.settings import read


@click.command()
def doctor() -> None:
    """Say what this machine can do. Everything is tried, not guessed; exits 1 when episodes cannot run here at all."""
    found = probe(read().home)
    console.table("", ("", "what", "why not", "what to do"), [("✓" if c.ok else "✗", c.name, c.why_not, c.what_to_do) for c in found])
    if not any(c.ok for c in found if c.runs_boxes):
        console.say("no sandbox can run here: neither a local box nor Docker")
        sys.exit(1)
