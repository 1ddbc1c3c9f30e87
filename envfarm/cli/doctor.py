"""`envfarm doctor`: shows what this machine can do, what is missing, and what to do about it."""

import sys

import click

from envfarm.cli import console
from envfarm.images.build_variables import on_loopback, with_credentials
from envfarm.images.local_system import machine_dpkg
from envfarm.sandboxes.capabilities import probe
from envfarm.settings import read


@click.command()
def doctor() -> None:
    """Show what this machine can do, by trying it. Exits with 1 if local boxes cannot run here."""
    settings = read()
    found = probe(settings.home)
    rows = [("✓" if c.ok else "✗", c.name, ". ".join(filter(None, (c.why_not, c.what_to_do)))) for c in found]
    console.table("", ("", "check", "result"), rows)
    if secret := with_credentials(settings.variables):
        console.say(
            f"{', '.join(secret)}: builds run untrusted code, so they get these addresses without user and password (docs/builds.md)"
        )
    if near := on_loopback(settings.variables):
        console.say(
            f"{', '.join(near)}: the address is on this machine's loopback, so Docker builds share the machine's network (docs/builds.md)"
        )
    if machine_dpkg() is None:
        console.say("no dpkg was found: local boxes show all of this machine's /usr, so validate tasks with --sandbox docker, too")
    else:
        console.say("local boxes have the same system packages as the official images")
    if missing := [c.name for c in found if c.needed and not c.ok]:
        console.say(f"local boxes cannot run here without: {', '.join(missing)}")
        sys.exit(1)
