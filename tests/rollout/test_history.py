"""Which rollouts a client can ask for, with which password, and for how long."""

from tests.conftest import deployment
from tests.rollout.helpers import phases, without_history
from tests.service import PASSWORD


def test_no_such_rollout(service):
    assert (service.show().status, service.show().json()["reason"]) == (404, "NotFound")
    service.deploy()
    for unknown in ("20200101T000000.000000Z", "nothing", "../web", "web-5b87758fdf"):
        answer = service.show(id=unknown)
        assert (answer.status, answer.json()["reason"]) == (404, "NotFound")
    assert service.show("other").status == 404


def test_without_the_password_no_rollout_is_shown(service):
    service.deploy()
    for header in ({}, {"Authorization": "Bearer wrong-wrong-wrong-wrong"}):
        for path in ("/deployment/web", "/deployment/other", "/deployment", "/deployment/web?id=x&wait=1"):
            assert service.get(path, **header).text == "wrong or missing password\n"
    answer = service.post("/deployment/web/rollback", {"pw": "wrong-wrong-wrong-wrong"})
    assert (answer.status, answer.text) == (403, "wrong or missing password\n")


def test_a_rollout_that_has_ended_is_always_shown_the_same(service, cluster):
    first = service.deploy()
    second = service.deploy(image="acme/web:missing", cause="a typo")
    assert [first.status, second.status] == [200, 424]
    ids = [each.json()["id"] for each in (first, second)]
    assert service.deploy(image="acme/web:3").status == 200
    assert service.roll_back(revision=1).status == 200
    for rollout_id, answer in zip(ids, (first, second), strict=True):
        again = service.show(id=rollout_id, wait=5)
        assert (again.status, without_history(again)) == (answer.status, without_history(answer))
    assert phases(service.show()) == ["complete", "complete", "failed", "complete"]


def test_a_password_for_one_deployment_shows_and_rolls_back_only_that_one(service):
    service.configure("api", deployment("api"))
    service.password("api", "only-for-the-api-0123456789")
    service.deploy("api")
    service.right = "only-for-the-api-0123456789"
    try:
        assert service.show("api").status == 200
        assert (service.show("web").status, service.roll_back("web").status) == (403, 403)
        assert service.roll_back("api").status == 409
    finally:
        del service.right


def test_several_deployments_and_none_named(service):
    service.configure("api", deployment("api"))
    answer = service.post("/deployment/rollback", {"pw": PASSWORD})
    assert (answer.status, "api" in answer.text, "web" in answer.text) == (400, True, True)
    (service.deployments_dir / "api.yaml").unlink()
    assert service.post("/deployment/rollback", {"pw": PASSWORD}).status == 404
    service.deploy()
    assert service.post("/deployment/rollback", {"pw": PASSWORD}).status == 409


def test_no_more_than_20_rollouts_are_kept(service, cluster):
    service.configure("web", deployment(replicas=0))
    ids = [service.deploy().json()["id"] for _ in range(22)]
    history = service.show().json()["history"]
    assert [each["id"] for each in history] == ids[:1:-1]
    assert len(cluster.get("auto-deployer-web", "configmaps")["data"]) == 20
