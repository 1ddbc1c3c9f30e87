"""Bringing tasks into a farm: by digest, safe to repeat, valid last, and nothing that is not what it says."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
import zstandard

from envfarm.api.app import create_app
from envfarm.api.services import ApiOptions
from envfarm.core import digest
from envfarm.core.ids import TaskDigest
from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.validation import ValidationReport
from envfarm.stores import catalogue_archive
from envfarm.stores.access import SCOPES
from envfarm.stores.catalogue import pack_report
from envfarm.testing.factories import make_environment, make_task, passed_gates
from envfarm.testing.served import served
from envfarm.testing.small_service import A, SmallService
from tests.integration.api.conftest import Site

BLOB = b"a checkout" * 1000
BLOB_DIGEST = digest.of_bytes(BLOB)
TASK = make_task(name="elsewhere/made", checkout=BLOB_DIGEST)
ARCHIVE = catalogue_archive.pack(TASK)
BASE = "/v1/catalogue"
HERE = f"{BASE}/tasks/{TASK.digest}"


def report(task: TaskDigest = TASK.digest) -> ValidationReport:
    gates = passed_gates()
    return ValidationReport(task=task, environment=make_environment(), provider="local", created_at=TASK.created_at, gates=gates)


async def put(site: Site, path: str, body: bytes) -> httpx.Response:
    return await site.http.put(path, content=body)


async def test_a_task_is_brought_and_is_valid_only_at_the_end(site: Site) -> None:
    wanted = {"tasks": [TASK.digest], "blobs": [BLOB_DIGEST]}
    assert (await site.http.post(f"{BASE}/missing", json=wanted)).json() == wanted
    assert (await put(site, HERE, ARCHIVE)).status_code == 422  # its checkout is not here
    assert (await put(site, f"{BASE}/blobs/{BLOB_DIGEST}", BLOB)).json() == {"digest": BLOB_DIGEST, "size_bytes": len(BLOB)}
    assert (await put(site, HERE + "?repository=elsewhere/whole", ARCHIVE)).status_code == 201
    assert (await site.http.post(f"{BASE}/missing", json=wanted)).json() == {"tasks": [], "blobs": []}
    assert (await site.http.get(f"/v1/tasks/{TASK.digest}")).json()["state"] == "unchecked"
    assert (await put(site, f"{HERE}/report", pack_report(report()))).status_code == 204
    found = (await site.http.get("/v1/tasks/elsewhere/made")).json()
    assert (found["state"], found["providers"], found["repository"]) == ("valid", ["local"], "elsewhere/whole")
    assert await site.farm.catalogue.get(TASK.digest) == TASK
    assert await site.farm.blobs.get(BLOB_DIGEST) == BLOB
    # A report that was made elsewhere says nothing of what boxes are made of here.
    assert await site.farm.catalogue.environment(TASK.digest, "local") is None


async def test_it_is_safe_to_bring_again_and_at_once(site: Site) -> None:
    for status in (201, 200):
        both = await asyncio.gather(*(put(site, f"{BASE}/blobs/{BLOB_DIGEST}", BLOB) for _ in range(2)))
        assert [r.status_code for r in both] == [200, 200]
        assert (await put(site, HERE, ARCHIVE)).status_code == status
        assert (await put(site, f"{HERE}/report", pack_report(report()))).status_code == 204
    await site.farm.catalogue.quarantine(TASK.digest, "a person's reason")
    await put(site, f"{HERE}/report", pack_report(report()))
    assert (await site.farm.catalogue.find(TASK.digest)).state == "quarantined"


async def test_what_is_not_what_it_says_is_refused(site: Site) -> None:
    other = catalogue_archive.pack(make_task(name="elsewhere/other"))
    bomb = zstandard.compress(b"\0" * (300 << 20))
    assert (await put(site, f"{BASE}/blobs/{BLOB_DIGEST}", BLOB)).status_code == 200
    answers = [
        await put(site, f"{BASE}/blobs/{digest.of_bytes(b'x')}", b"y"),
        await put(site, f"{BASE}/blobs/../../etc/passwd", b"y"),
        await put(site, HERE, other),
        await put(site, HERE, b"no archive"),
        await put(site, HERE, bomb),
        await put(site, f"{HERE}/report", pack_report(report())),
    ]
    assert [a.status_code for a in answers] == [422, 404, 422, 422, 422, 404]
    assert (await put(site, HERE, ARCHIVE)).status_code == 201
    wrong = TaskDigest("sha256:" + "0" * 64)
    for body in (pack_report(report(wrong)), bomb, b"{}", zstandard.compress(json.dumps({"task": TASK.digest}).encode())):
        assert (await put(site, f"{HERE}/report", body)).status_code == 422
    assert (await site.farm.catalogue.find(TASK.digest)).state == "unchecked"
    assert not await site.farm.blobs.holds(digest.of_bytes(b"y"))
    assert site.farm.blobs.collect() == 0
    assert not list((site.farm.home / "blobs").glob("*/.new-*"))


async def test_it_has_a_scope_of_its_own(site: Site) -> None:
    token = await site.farm.access.issue(A, "trainer", SCOPES - {"catalogue"})
    for method, path in (("GET", BASE), ("POST", f"{BASE}/missing"), ("PUT", HERE), ("PUT", f"{BASE}/blobs/{BLOB_DIGEST}")):
        answer = await site.http.request(method, path, headers=site.as_tenant(token), content=b"{}")
        assert (answer.status_code, "catalogue" in answer.json()["detail"]) == (403, True)


async def test_a_farm_that_makes_environments_takes_none(site: Site) -> None:
    assert (await site.http.get(BASE)).json()["builds"] is True
    answer = await site.http.put(f"{HERE}/environment", json=make_environment().model_dump(mode="json"))
    assert answer.status_code == 409


@pytest.fixture
def pods(tmp_path: Path) -> SmallService:
    """A farm that makes no environments, and takes small things alone."""
    return SmallService(tmp_path, sandbox="kubernetes", builds=False, api=ApiOptions(max_body_bytes=100_000, max_blob_bytes=200_000))


def in_registry(checkout: BlobRef | None = None, reference: str = "") -> Environment:
    image = digest.of_bytes(b"image")
    return Environment(image=ImageRef(kind="oci", digest=image, reference=reference or f"registry.example/e@{image}"), checkout=checkout)


async def test_a_farm_of_pods_takes_environments_that_are_named_by_digest(pods: SmallService) -> None:
    await pods.open(tasks=0)
    headers = {"Authorization": f"Bearer {await pods.access.issue(A, 'operator', SCOPES)}"}
    ref = BlobRef(digest=BLOB_DIGEST, size_bytes=len(BLOB))
    async with served(create_app(pods.services)) as url, httpx.AsyncClient(base_url=url, headers=headers) as http:
        assert (await http.get("/v1/me")).json()["sandbox"] == "kubernetes"
        about = (await http.get(BASE)).json()
        assert about == {"sandbox": "kubernetes", "builds": False, "max_archive_bytes": 100_000, "max_blob_bytes": 200_000}
        # Such a farm has no use for what environments are made from: the task comes without its own checkout.
        assert (await http.put(HERE, content=ARCHIVE)).status_code == 201

        async def say(environment: Environment) -> int:
            return (await http.put(f"{HERE}/environment", json=environment.model_dump(mode="json"))).status_code

        assert await say(in_registry(ref)) == 422  # the blob is not here
        assert (await http.put(f"{BASE}/blobs/{BLOB_DIGEST}", content=BLOB)).status_code == 200
        for wrong in (in_registry(ref, "registry.example/e:latest"), make_environment()):
            assert await say(wrong) == 422
        assert [await say(in_registry(ref)) for _ in range(2)] == [204, 204]
        assert await pods.catalogue.environment(TASK.digest, "kubernetes") == in_registry(ref)
        large = [await http.put(f"{BASE}/blobs/{BLOB_DIGEST}", content=bytes(200_001)), await http.put(HERE, content=bytes(100_001))]
        assert [a.status_code for a in large] == [413, 413]
        between = await http.put(f"{BASE}/blobs/{digest.of_bytes(bytes(150_000))}", content=bytes(150_000))
        assert between.status_code == 200
    await pods.close()
