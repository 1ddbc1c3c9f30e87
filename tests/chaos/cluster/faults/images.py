"""The registry has not got an image that no node has either, or lets nobody pull for a while."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.chaos.cluster import made_tasks
from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.http_wire import Asked, Harm
from tests.chaos.cluster.moments import Target
from tests.contract.kubernetes_cluster import REGISTRY

MISSING = Harm(404, (), b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "made up"}]}')
BUSY = Harm(429, (("Retry-After", "1"),), b'{"errors": [{"code": "TOOMANYREQUESTS", "message": "made up"}]}')


def _registry(harm: Harm) -> Callable[[Field, Target], AbstractContextManager[None]]:
    """A task with an image of its own, whose first episodes come while the registry is so."""

    @contextmanager
    def done(field: Field, target: Target) -> Iterator[None]:
        word = secrets.token_hex(4)
        image = made_tasks.vary(REGISTRY, field.image, word)
        wanted = image.partition("@")[2]

        def rule(asked: Asked) -> Harm | None:
            return harm if wanted in asked.path else None

        with field.registry_wire.harming(rule):
            field.put_task(f"made-up/pulled-{word}", image)
            field.asks("gold", 1, f"made-up/pulled-{word}")
            yield

    return done


FAULTS = (
    Fault("image missing for a while", _registry(MISSING), "all", lasts_s=15.0, phases=("create",)),
    Fault("registry: 429", _registry(BUSY), "all", lasts_s=15.0, phases=("create",)),
)
