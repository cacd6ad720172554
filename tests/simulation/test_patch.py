"""Strategic merge patches."""

from tests.simulation.conftest import DEPLOYMENTS, STRATEGIC, STRICT, Http, deployment, first_container


def variables(item):
    return [(v["name"], v.get("value")) for v in first_container(item)["env"]]


def test_strategic_merge(cluster):
    item = deployment(replicas=0)
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    first_container(item).update(env=env, command=["a", "b"])
    item["metadata"]["annotations"] = {"a": "1"}
    http = Http(cluster)
    http("POST", DEPLOYMENTS, item)

    def patched(patch):
        status, answer = http("PATCH", f"{DEPLOYMENTS}/web{STRICT}&dryRun=All", patch, STRATEGIC)
        assert status == 200, answer
        return answer

    def in_container(**fields):
        return patched({"spec": {"template": {"spec": {"containers": [{"name": "web", **fields}]}}}})

    merged = in_container(env=[{"name": "B", "value": "3"}, {"name": "C", "value": "4"}])
    assert variables(merged) == [("A", "1"), ("B", "3"), ("C", "4")]
    moved = in_container(env=[{"name": "C", "value": "4"}, {"name": "A", "value": "9"}])
    assert variables(moved) == [("C", "4"), ("A", "9"), ("B", "2")]
    assert variables(in_container(env=[{"name": "A", "$patch": "delete"}])) == [("B", "2")]
    assert first_container(in_container(command=["c"]))["command"] == ["c"]
    assert "a" not in patched({"metadata": {"annotations": {"a": None}}})["metadata"].get("annotations", {})
    spec = deployment(image="acme/web:2")["spec"]
    del spec["replicas"]
    replaced = patched({"spec": {"$patch": "replace", **spec}})
    assert replaced["spec"]["replicas"] == 1 and "env" not in first_container(replaced)
    assert first_container(replaced)["image"] == "acme/web:2" and replaced["metadata"]["annotations"]["a"] == "1"
    assert replaced["spec"]["strategy"]["type"] == "RollingUpdate"


def test_generation_counts_what_is_asked_for(cluster):
    cluster.create("deployments", "default", deployment(replicas=0))

    def generation(patch):
        return cluster.patch("deployments", "default", "web", patch)["metadata"]["generation"]

    assert [generation({"metadata": {"labels": {"a": "b"}}}), generation({"spec": {"replicas": 0}})] == [1, 1]
    assert [generation({"metadata": {"annotations": {"a": "b"}}}), generation({"spec": {"replicas": 1}})] == [2, 3]
