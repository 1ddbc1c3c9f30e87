"""A trainer's code imports from `envfarm.client` alone."""

import inspect
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel

import envfarm.client
from envfarm.client import AsyncClient, Client, TrainingRow, Trajectory


def types_in(hint: Any, found: set[type]) -> None:
    """The farm's types that stand in a hint, and in their fields."""
    for part in get_args(hint):
        types_in(part, found)
    if not isinstance(hint, type) or not hint.__module__.startswith("envfarm.") or hint in found:
        return
    found.add(hint)
    if issubclass(hint, BaseModel) or is_dataclass(hint):
        for field in get_type_hints(hint).values():
            types_in(field, found)


def test_all_that_the_clients_methods_take_and_give_is_exported() -> None:
    found = set[type]()
    for client in (Client, AsyncClient):
        for name, method in inspect.getmembers(client, inspect.isfunction):
            if not name.startswith("_"):
                for hint in get_type_hints(method).values():
                    types_in(hint, found)
    types_in(get_type_hints(Trajectory.rows)["return"], found)
    assert TrainingRow in found
    assert {kind.__name__ for kind in found} - set(envfarm.client.__all__) == set()
