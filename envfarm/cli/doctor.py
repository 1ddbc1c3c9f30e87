"""`envfarm doctor`: what this machine can do, why not, and what to do about it."""

import sys

import click

from envfarm.cli import console
from envfarm.sandboxes.capabilities import probe
from envfarm.settings import read


@click.command()
def doctor() -> None:
    """Say what this machine can do. Everything is tried, not guessed; exits 1 when local boxes cannot run here."""
    found = probe(read().home)
    console.table("", ("", "what", "seen", "what to do"), [("✓" if c.ok else "✗", c.name, c.why_not, c.what_to_do) for c in found])
    if missing := [c.name for c in found if c.needed and not c.ok]:
        console.say(f"local boxes cannot run here without: {', '.join(missing)}")
        sys.exit(1)
