"""Grants: which deployments a caller's passwords and token open."""

import pytest

from access.grants import Access, Grants
from access.passwords import Passwords
from errors import BadRequest, NotFound, WorkflowNotAllowed, WrongPassword

GOOD = b"correct-horse-battery-staple"
TOKEN_OF_DOCKER_HUB = b"9f86d081884c7d659a2feaa0"


@pytest.mark.parametrize(
    ("files", "name", "configured", "required"),
    [
        ({"default"}, "web", ["web"], "web"),
        ({"default"}, "web", ["api", "web"], "web"),
        ({"default"}, None, ["web"], "web"),
        ({"web"}, "web", ["api", "web"], "web"),
        ({"web"}, None, ["web"], "web"),
        ({"web", "api"}, "api", ["api", "web"], "api"),
    ],
)
def test_requires_the_named_deployment_or_the_only_one(files, name, configured, required):
    assert Grants(frozenset(files)).require(name, configured) == required


@pytest.mark.parametrize(
    ("files", "name", "configured", "refusal", "words"),
    [
        ({"default"}, "other", ["web"], NotFound, "no deployment other is configured; there is /deployment/web"),
        ({"default"}, "web", [], NotFound, "there is none"),
        ({"default"}, None, [], NotFound, "no deployment is configured"),
        ({"default"}, None, ["api", "web"], BadRequest, "/deployment/api, /deployment/web"),
        ({"web"}, None, ["api", "web"], BadRequest, "name one in the URL: /deployment/web"),
        ({"web"}, "api", ["api", "web"], WrongPassword, "wrong or missing password"),
        ({"web"}, "other", ["api", "web"], WrongPassword, "wrong or missing password"),
        ({"web"}, None, ["api"], WrongPassword, "wrong or missing password"),
        ({"web"}, None, ["api", "worker"], WrongPassword, "wrong or missing password"),
        ({"web"}, None, [], WrongPassword, "wrong or missing password"),
        ({"web"}, "web", ["api"], NotFound, "no deployment web is configured; there is none"),
    ],
)
def test_refuses_what_is_not_opened_or_not_configured(files, name, configured, refusal, words):
    with pytest.raises(refusal) as refused:
        Grants(frozenset(files)).require(name, configured)
    assert words in str(refused.value)
    if refusal is not NotFound:
        assert "worker" not in str(refused.value)


def test_a_caller_sees_only_the_deployments_that_the_password_opens():
    assert Grants(frozenset({"web"})).allowed(["api", "web"]) == ["web"]
    assert Grants(frozenset({"default"})).allowed(["api", "web"]) == ["api", "web"]


def refuse(refusals):
    """Return what checks a token that opens the deployments for which there is no refusal."""

    def check(name):
        if name in refusals:
            raise refusals[name]

    return check


def test_a_token_opens_what_its_check_lets_pass():
    grants = Grants(check_token=refuse({"api": WrongPassword()}))
    assert grants.allowed(["api", "web"]) == ["web"]
    assert grants.require("web", ["api", "web"]) == "web"
    with pytest.raises(WrongPassword):
        grants.require("api", ["api", "web"])


def test_a_token_that_opens_nothing_gets_the_refusal_that_says_most():
    of_the_right_repository = {"api": WrongPassword(), "web": WorkflowNotAllowed("deploy on a push")}
    with pytest.raises(WorkflowNotAllowed, match="deploy on a push"):
        Grants(check_token=refuse(of_the_right_repository)).allowed(["api", "web"])
    with pytest.raises(WrongPassword):
        Grants(check_token=refuse({"api": WrongPassword()})).allowed(["api"])


@pytest.fixture
def access(tmp_path):
    (tmp_path / "default").write_bytes(GOOD)
    (tmp_path / "dockerhub").write_bytes(TOKEN_OF_DOCKER_HUB)
    return Access(Passwords(tmp_path), None, tmp_path)


def test_one_right_password_among_several_is_enough(access):
    assert access.grants([b"wrong", GOOD], None) == Grants(frozenset({"default"}))


@pytest.mark.parametrize("given", [[], [b"wrong"], [TOKEN_OF_DOCKER_HUB]])
def test_without_a_right_password_there_are_no_grants(access, given):
    with pytest.raises(WrongPassword):
        access.grants(given, b"a.b.c")


def test_only_a_token_of_its_own_file_is_docker_hubs(access):
    access.check_docker_hub(TOKEN_OF_DOCKER_HUB)
    with pytest.raises(WrongPassword):
        access.check_docker_hub(GOOD)


def test_a_service_without_any_credentials_is_not_ready(access, tmp_path):
    assert access.readiness() == (True, [])
    nothing = Access(Passwords(tmp_path / "nothing"), None, tmp_path)
    usable, problems = nothing.readiness()
    assert not usable
    assert problems[-1] == f"there is no usable password in {tmp_path / 'nothing'}"
