"""`envfarm doctor`: what this machine can do, why not, and what to do about it."""

import sys

import click

from envfarm.cli import console
from envfarm.images.build_variables import on_loopback, with_credentials
from envfarm.images.local_system import machine_dpkg
from envfarm.sandboxes.capabilities import probe
from envfarm.settings import read


@click.command()
def doctor() -> None:
    """Say what this machine can do. Everything is tried, not guessed; exits 1 when local boxes cannot run here."""
    settings = read()
    found = probe(settings.home)
    told = [("✓" if c.ok else "✗", c.name, ". ".join(filter(None, (c.why_not, c.what_to_do)))) for c in found]
    console.table("", ("", "what", "seen"), told)
    if secret := with_credentials(settings.variables):
        console.say(f"{', '.join(secret)}: builds run strangers' code, and get these addresses without user and password (docs/builds.md)")
    if near := on_loopback(settings.variables):
        console.say(f"{', '.join(near)}: on this machine's loopback, so Docker builds share the machine's network (docs/builds.md)")
    if machine_dpkg() is None:
        console.say("no dpkg: boxes show all of /usr; validate on Docker, too")
    else:
        console.say("local boxes hold what the official images do")
    if missing := [c.name for c in found if c.needed and not c.ok]:
        console.say(f"local boxes cannot run here without: {', '.join(missing)}")
        sys.exit(1)
