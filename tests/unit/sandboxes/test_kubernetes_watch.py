"""The table that a watch of pods keeps."""

from pathlib import Path

from envfarm.sandboxes import kubernetes_status
from envfarm.sandboxes.kubernetes_api import KubernetesApi
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_watch import PodWatch
from tests.unit.sandboxes.full_cluster import FullCluster, Json, served

LONG = {"labels": {"envfarm.dev/part": "box"}, "managedFields": [{"manager": "someone", "fieldsV1": {"f:status": {}}}] * 20}
SPEC = {"nodeName": "n1"}
STATUS = {"podIP": "127.64.0.1", "containerStatuses": [{"name": "box", "state": {"running": {}}}]}


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
