"""How often a guess at canaries is right, and how many blind rounds that takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log2

from envfarm.core.plan import Canary, TestPlan

BLIND_BITS = 8
"""A forger that guesses is right in all blind rounds with a chance of at most 1 in 256."""
BLIND_ROUNDS_MIN = 3
"""Applies however many bits one round has: further rounds have other arrangements, so a rule that fits one may fail in the next."""


def blind_rounds(plan: TestPlan) -> int:
    """How many blind phases, each in its own box, bring the chance of a lucky guess to 2 to the minus `BLIND_BITS` or below.

    The minimum if no number does (see `bounds_guesses`); 1 without canaries, and in mode `shared`, which has one box.
    """
    if plan.mode == "shared" or not plan.canaries:
        return 1
    bits = blind_bits(plan)
    return max(BLIND_ROUNDS_MIN, ceil(BLIND_BITS / bits) if bits else 0)


def bounds_guesses(plan: TestPlan) -> bool:
    """Whether blind rounds bound the chance of a guess: each has at least one bit."""
    return blind_bits(plan) >= 1


def blind_bits(plan: TestPlan) -> float:
    """How many bits a forger has to guess in one blind phase, in the worst draw.

    Of n FAIL_TO_PASS tests with one copy each it must say which are inverted. At least one is and at least one is not, so there are 2ⁿ - 2
    answers. Of a test with n copies it must say which of them has the test's own value: n answers. Only tests that are shown both ways
    count: a copy that is always of one kind needs no guess. Only secret copies count: the kind of others can be found without a guess. A
    template with copies of one kind alone has no bits, since one answer to everything is right. Copies of tests that were in the agent's
    tree add nothing.
    """
    return sum(min(_bits(tests) for tests in templates.values()) for templates in _secret_copies(plan).values())


def weakest_bits(plan: TestPlan) -> float:
    """How many bits a forger has to guess in one blind phase whose change is right for all FAIL_TO_PASS tests but one, the easiest."""
    tests = tests_of(plan.canaries)
    own = dict.fromkeys((tests.get(test, test) for test in plan.fail_to_pass), 0.0)
    for templates in _secret_copies(plan).values():
        for test in own:
            own[test] += min(_bits_of_one(copies.get(test, {})) for copies in templates.values())
    return min(own.values(), default=0.0)


def _secret_copies(plan: TestPlan) -> dict[str, dict[str, dict[str, dict[str, str]]]]:
    """By destination, template, test and copy: the kind of each secret copy of a FAIL_TO_PASS test that is shown both ways."""
    wanted = set(plan.fail_to_pass)
    kinds: dict[str, set[str]] = {}
    shown: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for canary in plan.canaries:
        shown.setdefault(canary.destination, {}).setdefault(canary.template, {})
        if canary.origin in wanted and canary.secret:
            kinds.setdefault(canary.origin, set()).add(canary.kind)
    tests = tests_of(plan.canaries)
    both_ways = {tests[origin] for origin, seen in kinds.items() if len(seen) > 1}
    for canary in plan.canaries:
        test = tests[canary.origin]
        if canary.origin in wanted and canary.secret and test in both_ways:
            copies = shown[canary.destination][canary.template].setdefault(test, {})
            copy = _copy_of(canary)
            copies[copy] = "inverted" if "inverted" in (canary.kind, copies.get(copy)) else "renamed"
    return shown


def tests_of(canaries: Sequence[Canary]) -> dict[str, str]:
    """By origin: the test that it is a case of. Origins that share a copy, because they share a function, are one test."""
    above: dict[str, str] = {}

    def first(test: str) -> str:
        while above.setdefault(test, test) != test:
            test = above[test]
        return test

    seen: dict[tuple[str, str], str] = {}
    origins = {canary.origin: canary.origin.split("[", 1)[0] for canary in canaries}
    for canary in canaries:
        test = first(origins[canary.origin])
        above[test] = first(seen.setdefault((canary.template, _copy_of(canary)), test))
    return {origin: first(test) for origin, test in origins.items()}


def _copy_of(canary: Canary) -> str:
    return canary.copy or canary.id.split("[", 1)[0]


def _bits(tests: Mapping[str, Mapping[str, str]]) -> float:
    """Of one template, by test and copy."""
    single = [kind for copies in tests.values() if len(copies) == 1 for kind in copies.values()]
    bits = log2(2 ** len(single) - 2) if len(set(single)) > 1 else 0.0
    return bits + sum(log2(len(copies)) for copies in tests.values() if len(set(copies.values())) > 1)


def _bits_of_one(copies: Mapping[str, str]) -> float:
    """Of one test in one template, whose other tests need no guess."""
    return 1.0 if len(copies) == 1 else log2(len(copies)) if len(set(copies.values())) > 1 else 0.0
