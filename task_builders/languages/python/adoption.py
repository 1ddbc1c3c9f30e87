"""Whether an environment that worked for one commit can serve another commit of the same repository. Pure."""

from collections.abc import Iterable
from datetime import timedelta

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envfarm.core.recipe import Recipe
from task_builders.languages.python import recipe as recipes

FARTHEST = timedelta(days=270)
"""Maximum distance between the resolution dates of the two commits."""


def adopt(remembered: Recipe, wanted: Recipe) -> Recipe | None:
    """The remembered layer with the wanted project steps; None unless its pins meet all requirements and hold no package of the project."""
    same_ground = remembered.toolchain == wanted.toolchain and set(wanted.system_packages) <= set(remembered.system_packages)
    if not same_ground or not wanted.env.items() <= remembered.env.items() or abs(remembered.resolved_at - wanted.resolved_at) > FARTHEST:
        return None
    if recipes.LOCKED in remembered.files:
        pins = _pins(remembered.files[recipes.LOCKED])
        if not pins.keys().isdisjoint(recipes.own_names(wanted)) or not _meets(
            pins, recipes.requirements_of(wanted), wanted.toolchain.version
        ):
            return None
    elif not set(recipes.requirements_of(wanted)) <= set(recipes.requirements_of(remembered)):
        return None
    return remembered.model_copy(update={"project": wanted.project})


def _pins(lock: str) -> dict[str, str]:
    pairs = (line.split(";")[0].split("==", 1) for line in lock.splitlines() if "==" in line)
    return {str(canonicalize_name(name.split("[")[0].strip())): version.strip() for name, version in pairs}


def _meets(pins: dict[str, str], requirements: Iterable[str], python: str) -> bool:
    minor = ".".join(python.split(".")[:2])
    environment = {
        "python_version": minor,
        "python_full_version": f"{minor}.99",
        "extra": "",
        "platform_python_implementation": "CPython",
        "sys_platform": "linux",
    }
    for text in requirements:
        try:
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate(environment):
                continue
            if not requirement.specifier.contains(Version(pins[str(canonicalize_name(requirement.name))]), prereleases=True):
                return False
        except (KeyError, InvalidRequirement, InvalidVersion, UndefinedEnvironmentName):
            return False
    return True
