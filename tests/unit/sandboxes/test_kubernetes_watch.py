"""The table that a watch of pods keeps."""

import asyncio
from pathlib import Path

from envfarm.sandboxes import kubernetes_status
from envfarm.sandboxes.kubernetes_api import KubernetesApi, Stop
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_watch import PodWatch
from tests.unit.sandboxes.full_cluster import FullCluster, Json, served

LONG = {"labels": {"envfarm.dev/part": "box"}, "managedFields": [{"manager": "someone", "fieldsV1": {"f:status": {}}}] * 20}
SPEC = {"nodeName": "n1"}
STATUS = {"podIP": "127.64.0.1", "containerStatuses": [{"name": "box", "state": {"running": {}}}]}


class Patience(Stop):
    """Waits no longer than it must, notes for how long it would have, and stops after some times."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout_s: float) -> bool:
        self.waits.append(timeout_s)
        if len(self.waits) == 4:
            self.set()
        return super().wait(0)


async def test_a_watch_that_ends_at_once_again_and_again_is_asked_for_less_and_less_often(tmp_path: Path) -> None:
    cluster = FullCluster()
    cluster.watch_s = 0.0
    with served(cluster, tmp_path / "kubeconfig"):
        api = KubernetesApi(KubernetesOptions(boxd_image="r/b", kubeconfig=str(tmp_path / "kubeconfig")))
        watch = PodWatch(api, "envfarm.dev/part=box", changed=lambda *_: None)
        watch._stop = patience = Patience()
        watch.start()
        await watch.ready(timeout_s=30)
        while not patience.is_set:  # noqa: ASYNC110 - the thread's
            await asyncio.sleep(0.01)
        await watch.stop()
        api.close()
    assert patience.waits == [0.1, 0.2, 0.4, 0.8]
    assert cluster.watches == 4


async def test_a_pod_is_kept_without_what_nobody_reads_of_it(tmp_path: Path) -> None:
    cluster = FullCluster()
    pod: Json = {"metadata": {"name": "box-1", **LONG}, "spec": {**SPEC, "containers": [{"name": "box"}]}, "status": STATUS}
    cluster.pods["box-1"] = pod
    cluster.answer("POST", "/pods", {}, {**pod, "metadata": {"name": "box-2", **LONG}})
    with served(cluster, tmp_path / "kubeconfig"):
        api = KubernetesApi(KubernetesOptions(boxd_image="r/b", kubeconfig=str(tmp_path / "kubeconfig")))
        watch = PodWatch(api, "envfarm.dev/part=box", changed=lambda *_: None)
        watch.start()
        listed = await watch.until("box-1", lambda found: found, timeout_s=5)
        seen = await watch.until("box-2", lambda found: found, timeout_s=5)
        await watch.stop()
        api.close()
    assert listed == {"metadata": {"name": "box-1"}, "spec": SPEC, "status": STATUS}
    assert (set(seen["metadata"]), seen["spec"]) == ({"name"}, SPEC)
    assert kubernetes_status.address(listed) == "127.64.0.1"
    assert str(kubernetes_status.end(listed, gone=True, own_kernel=False)) == "pod box-1 on n1 was deleted"
