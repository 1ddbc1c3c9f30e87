"""Which call can follow which, as OpenAPI links: for people who read the contract, and for programs that make calls up from it."""

from typing import Any

from fastapi.routing import APIRoute


def operation_id(route: APIRoute) -> str:
    """A route's name in the contract: its resource and what it does."""
    return ".".join([*map(str, route.tags[:1]), route.name])


def leads_to(parameter: str, *operations: str) -> dict[str, Any]:
    """The `id` of this answer is that path parameter of those operations."""
    links = {o.replace(".", "-"): {"operationId": o, "parameters": {parameter: "$response.body#/id"}} for o in operations}
    return {"links": links}
