"""The contract of every sandbox provider, as a list of checks for the tests of providers and of fakes.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    async def test_it_conforms(check, provider, factory):
        if check.needs <= HAS:
            await check.run(provider, factory)

A check names the capabilities that it needs; a provider's tests say which the provider has. So a fake without walls declares that, and
never passes as a provider with them. Checks use only sh and coreutils in the box; those of `PROTOCOL` only a few words of sh.
"""

from envfarm.testing import (
    conformance_commands,
    conformance_disk,
    conformance_files,
    conformance_life,
    conformance_protocol,
    conformance_walls,
)
from envfarm.testing.conformance_check import CAPABILITIES, Check, ConformanceFailure, SpecFactory

__all__ = ["CAPABILITIES", "CHECKS", "PROTOCOL", "Check", "ConformanceFailure", "SpecFactory"]

CHECKS: tuple[Check, ...] = (
    *conformance_protocol.CHECKS,
    *conformance_commands.CHECKS,
    *conformance_files.CHECKS,
    *conformance_life.CHECKS,
    *conformance_disk.CHECKS,
    *conformance_walls.CHECKS,
)

PROTOCOL: tuple[Check, ...] = tuple(check for check in CHECKS if check.needs <= {"fencing"})
"""The checks for a box that runs no programs."""
