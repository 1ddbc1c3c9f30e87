"""The table of faults."""

from tests.chaos.cluster.faults import api_server, boxes, clocks, components, database, farm, images, ray
from tests.chaos.cluster.faults.kinds import Fault

FAULTS: tuple[Fault, ...] = (
    *farm.FAULTS,
    *ray.FAULTS,
    *database.FAULTS,
    *boxes.FAULTS,
    *api_server.FAULTS,
    *images.FAULTS,
    *clocks.FAULTS,
    *components.FAULTS,
)
