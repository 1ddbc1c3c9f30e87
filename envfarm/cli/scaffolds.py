"""`envfarm scaffolds`: agents that are programs, and their layers."""

import asyncio
import time

import click

from envfarm.cli import console
from envfarm.settings import read
from envfarm.wiring import Farm


@click.group(short_help="Look at and install other people's agents.")
def scaffolds() -> None:
    """Agents that are other people's programs, for `--policy program:scaffold=NAME` (docs/scaffolds.md)."""


@scaffolds.command("list")
def list_() -> None:
    """List those that ship and those in the home's `scaffolds/`."""
    asyncio.run(_list())


async def _list() -> None:
    async with Farm(read()) as farm:
        known = farm.attached.scaffolds
        found = [known.find(name) for name in known.names()]
        console.table("", ("scaffold", "what it is"), [(each.name, each.about) for each in found])


@scaffolds.command(short_help="Install scaffolds now.")
@click.argument("name", nargs=-1, required=True)
def build(name: tuple[str, ...]) -> None:
    """Install scaffolds now; else the first episode that wants one waits for it. Needs the package registry."""
    asyncio.run(_build(name))


async def _build(names: tuple[str, ...]) -> None:
    async with Farm(read()) as farm:
        for name in names:
            begun = time.monotonic()
            layer = await farm.attached.layer(name)
            console.show(f"{name} {layer}")
            console.say(f"{time.monotonic() - begun:.1f} s")
