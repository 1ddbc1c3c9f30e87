"""What the proof that a box is closed tries, and what it makes of a box that is not."""

import asyncio
import ipaddress
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.errors import BoxBroken, SandboxError
from envfarm.sandboxes.kubernetes_api import KubernetesApi
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_walls import METADATA, NetworkProof
from tests.unit.sandboxes.test_boxd_client import boxd


@contextmanager
def api_at(server: str, folder: Path) -> Iterator[KubernetesApi]:
    said = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(said))
    api = KubernetesApi(KubernetesOptions(boxd_image="r/b", kubeconfig=str(folder / "kubeconfig")))
    yield api
    api.close()


def dialled(_line: str, asked: dict[str, Any]) -> tuple[int, Any]:
    """As boxd does in a box that shares this machine's network; outside it nothing is there."""
    return 200, {"addresses": [{"address": address, "reached": _reached(address)} for address in asked["addresses"]]}


def _reached(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if (":" in host) is not host.startswith("["):
        return False  # no address at all
    if host not in {"127.0.0.1", "[::1]"}:
        return False
    with socket.create_connection((host.strip("[]"), int(port)), 5):
        return True


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_box_that_reaches_this_process_is_refused_in_either_family_of_addresses(tmp_path: Path, address: str) -> None:
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as free:
            free.bind((address, 0))
    except OSError as e:
        pytest.skip(f"this machine has no address {address}: {e}")
    with api_at("https://127.0.0.1:6443", tmp_path) as api:
        proof = NetworkProof(api)
        async with boxd(tmp_path, dialled) as (box, _):
            with pytest.raises(SandboxError, match="a closed box reaches "):
                await proof.holds(box, address, within_s=0.0)
        await proof.aclose()


async def test_a_closed_box_tries_every_address_of_the_api_server(tmp_path: Path) -> None:
    asked: list[str] = []

    def nothing(_line: str, body: dict[str, Any]) -> tuple[int, Any]:
        asked.extend(body["addresses"])
        return 200, {"addresses": [{"address": address, "reached": False} for address in body["addresses"]]}

    with api_at("https://[fd00::1]:6443", tmp_path) as api:
        proof = NetworkProof(api)
        async with boxd(tmp_path, nothing) as (box, _):
            await proof.holds(box, "127.0.0.1", within_s=0.0)
        await proof.aclose()
    assert asked[1:] == ["[fd00::1]:6443", METADATA]


async def test_an_api_server_that_cannot_be_found_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise socket.gaierror("temporary failure in name resolution")

    with api_at("https://127.0.0.1:6443", tmp_path) as api:
        proof = NetworkProof(api)
        async with boxd(tmp_path, dialled) as (box, _):
            await proof._own_address(ipaddress.ip_address("127.0.0.1"))  # opening its listener looks nothing up later
            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
            with pytest.raises(SandboxError, match="cannot be looked up"):
                await proof.holds(box, "127.0.0.1", within_s=0.0)
        await proof.aclose()


@pytest.mark.parametrize("addresses", [(), ("10.0.0.1:80", METADATA)])
async def test_a_box_that_does_not_tell_of_each_address_proves_nothing(tmp_path: Path, addresses: tuple[str, ...]) -> None:
    async with boxd(tmp_path, lambda _line, asked: (200, {"addresses": [{"address": a} for a in asked["addresses"][1:]]})) as (box, _):
        with pytest.raises(BoxBroken, match="was to try"):
            await box.reaches(addresses, timeout_ms=300)
