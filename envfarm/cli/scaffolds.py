"""`envfarm scaffolds`: agent programs and their layers."""

import asyncio
import time

import click

from envfarm.cli import console
from envfarm.settings import read
from envfarm.wiring import Farm


@click.group(short_help="List and install agent programs (scaffolds).")
def scaffolds() -> None:
    """List and install scaffolds: other projects' agent programs, for `--policy program:scaffold=NAME` (docs/scaffolds.md)."""


@scaffolds.command("list")
def list_() -> None:
    """List the scaffolds that envfarm ships and those in the home's directory `scaffolds/`."""
    asyncio.run(_list())


async def _list() -> None:
    async with Farm(read()) as farm:
        known = farm.attached.scaffolds
        found = [known.find(name) for name in known.names()]
        console.table("", ("scaffold", "description"), [(each.name, each.about) for each in found])


@scaffolds.command(short_help="Install scaffolds.")
@click.argument("name", nargs=-1, required=True)
def build(name: tuple[str, ...]) -> None:
    """Install scaffolds NAME now, instead of when an episode first needs one. Needs the package registry."""
    asyncio.run(_build(name))


async def _build(names: tuple[str, ...]) -> None:
    async with Farm(read()) as farm:
        for name in names:
            begun = time.monotonic()
            layer = await farm.attached.layer(name)
            console.show(f"{name} {layer}")
            console.say(f"{time.monotonic() - begun:.1f} s")
