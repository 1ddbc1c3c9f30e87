"""What every sandbox provider must do: one list of checks, run by the tests of each provider and by the fakes' tests.

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
    async def test_it_conforms(check, provider, factory):
        if check.needs <= HAS:
            await check.run(provider, factory)

A check names the capabilities it needs; a provider's tests say which its provider has. A fake without walls says so, and never passes for
something that has them. Checks use sh, coreutils and nothing else in the box; those of the protocol's part no more than a few words of sh.
"""

from envfarm.testing import conformance_commands, conformance_files, conformance_life, conformance_protocol, conformance_walls
from envfarm.testing.conformance_check import CAPABILITIES, Check, ConformanceFailure, SpecFactory

__all__ = ["CAPABILITIES", "CHECKS", "PROTOCOL", "Check", "ConformanceFailure", "SpecFactory"]

CHECKS: tuple[Check, ...] = (
    *conformance_protocol.CHECKS,
    *conformance_commands.CHECKS,
    *conformance_files.CHECKS,
    *conformance_life.CHECKS,
    *conformance_walls.CHECKS,
)

PROTOCOL: tuple[Check, ...] = tuple(check for check in CHECKS if check.needs <= {"fencing"})
"""What a box must do that runs no programs."""
