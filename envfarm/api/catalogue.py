"""`/v1/catalogue`: tasks that were made elsewhere are brought into this farm. For whoever decides what everyone here trains on.

Everything is named by its digest and safe to send again. Brought in this order, a task is never valid before all of it is here: blobs, the
task, its environment, its reports. What a report says is taken at the word of the token's holder.
"""

from http import HTTPStatus
from typing import Annotated

import zstandard
from fastapi import APIRouter, Path, Query, Request, Response

from envfarm.api.access import Farm, scope
from envfarm.api.bodies import PlainJson
from envfarm.core.errors import Conflict, NotFound, StoreError, UsageError
from envfarm.core.ids import Digest, TaskDigest
from envfarm.core.image import BlobRef, Environment
from envfarm.core.listing import DIGEST, CatalogueInfo, TasksAndBlobs
from envfarm.stores import catalogue_archive
from envfarm.stores.catalogue import Origin, unpack_report

BLOBS = "/v1/catalogue/blobs/"
RAW = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}
router = APIRouter(route_class=PlainJson, prefix="/v1/catalogue", tags=["catalogue"], dependencies=[scope("catalogue")])
Named = Annotated[TaskDigest, Path(pattern=DIGEST)]


@router.get("")
async def about(farm: Farm) -> CatalogueInfo:
    """What bringing a task here takes."""
    options = farm.options
    return CatalogueInfo(
        sandbox=farm.sandbox, builds=farm.builds, max_archive_bytes=options.max_body_bytes, max_blob_bytes=options.max_blob_bytes
    )


@router.post("/missing")
async def missing(farm: Farm, wanted: TasksAndBlobs) -> TasksAndBlobs:
    """Which of these are not here."""
    known = await farm.catalogue.names(wanted.tasks)
    return TasksAndBlobs(
        tasks=tuple(task for task in wanted.tasks if task not in known),
        blobs=tuple([blob for blob in wanted.blobs if not await farm.blobs.holds(blob)]),
    )


@router.put("/blobs/{digest}", openapi_extra=RAW)
async def put_blob(farm: Farm, digest: Annotated[Digest, Path(pattern=DIGEST)], request: Request) -> BlobRef:
    """A checkout's archive, as it is. 422 where it has another digest."""
    return await farm.blobs.take(digest, request.stream())


@router.put("/tasks/{digest}", openapi_extra=RAW, responses={201: {"model": BlobRef}})
async def put_task(
    farm: Farm,
    digest: Named,
    request: Request,
    response: Response,
    repository: Annotated[str, Query(max_length=500)] = "",
    source_digest: Annotated[str, Query(pattern=r"^(sha256:[0-9a-f]{64})?$")] = "",
) -> BlobRef:
    """A task's archive, as the catalogue keeps it. `repository` is what splits of datasets do not cut apart. 201 where it is new."""
    packed = await request.body()
    try:
        most_bytes = farm.options.max_unpacked_bytes
        task = catalogue_archive.unpack(packed, expected=digest, where="what was sent", most_bytes=most_bytes)
    except StoreError as e:
        raise UsageError(str(e)) from e
    if task.checkout is not None and farm.builds:
        await _check_blob(farm, task.checkout)
    if not await farm.catalogue.names([digest]):
        response.status_code = HTTPStatus.CREATED
    await farm.catalogue.add(task, origin=_origin(repository, source_digest))
    return BlobRef(digest=Digest(digest), size_bytes=len(packed))


@router.put("/tasks/{digest}/environment", status_code=HTTPStatus.NO_CONTENT)
async def put_environment(farm: Farm, digest: Named, environment: Environment) -> None:
    """What this farm's boxes of the task are made of, in place of an earlier one. 409 where this farm makes environments itself."""
    if farm.builds:
        raise Conflict("this farm makes environments itself", hint="bring the task and its checkout alone")
    image = environment.image
    if image.kind != "oci" or not image.reference.endswith(f"@{image.digest}"):
        raise UsageError(f"the image {image.reference[:200]!r} is not named by its digest", hint="host/name@sha256:…")
    if environment.checkout is not None:
        await _check_blob(farm, environment.checkout.digest)
    await _check_known(farm, digest)
    await farm.catalogue.add_environment(digest, farm.sandbox, environment)


@router.put("/tasks/{digest}/report", openapi_extra=RAW, status_code=HTTPStatus.NO_CONTENT)
async def put_report(farm: Farm, digest: Named, request: Request) -> None:
    """A report of the gates, as JSON compressed with zstd, in place of an earlier one of the same provider's boxes unless it says less."""
    try:
        report = unpack_report(await request.body(), most_bytes=farm.options.max_unpacked_bytes)
    except (zstandard.ZstdError, ValueError) as e:
        raise UsageError(f"what was sent is no report: {str(e).splitlines()[0][:300]}") from e
    if report.task != digest:
        raise UsageError(f"the report is about {report.task[:80]}")
    await _check_known(farm, digest)
    await farm.catalogue.add_report(report, environment=False)


def _origin(repository: str, source_digest: str) -> Origin | None:
    return Origin(repository=repository, source_digest=Digest(source_digest)) if repository else None


async def _check_blob(farm: Farm, digest: Digest) -> None:
    if not await farm.blobs.holds(digest):
        raise UsageError(f"blob {digest[:80]} is not here", hint="bring the blobs first")


async def _check_known(farm: Farm, digest: TaskDigest) -> None:
    if not await farm.catalogue.names([digest]):
        raise NotFound(f"no task {digest}", hint="bring the task first")
