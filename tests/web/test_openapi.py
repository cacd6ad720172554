"""openapi.yaml describes what the code does, and nothing else."""

import ast
import importlib
import json
import re
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest
import yaml
from flask import request

from app import create_app
from errors import Refusal
from rollout.model import Phase, PodProblem, Replicas, Rollout
from rollout.record import Record
from rollout.wording import as_markdown
from tests.service import ROOT, SOURCES
from web import page, parsing
from web.answers import STATUS_OF

SPEC = yaml.safe_load((ROOT / "openapi.yaml").read_text())
SCHEMAS = SPEC["components"]["schemas"]
OPERATIONS = [
    (method.upper(), path, operation)
    for path, item in SPEC["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]


def resolved(node: object) -> object:
    """Return a node with its references followed."""
    if isinstance(node, dict) and "$ref" in node:
        found = SPEC
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return resolved(found)
    if isinstance(node, dict):
        return {key: resolved(value) for key, value in node.items()}
    return [resolved(each) for each in node] if isinstance(node, list) else node


def validate(value: object, schema: dict) -> None:
    jsonschema.Draft202012Validator(resolved(schema)).validate(value)


@pytest.fixture
def app(tmp_path):
    return create_app({"DEPLOYMENTS_DIR": str(tmp_path), "PASSWORDS_DIR": str(tmp_path)})


def refusals() -> set[tuple[int, str]]:
    """Return the status and reason of every refusal in the code: those of the classes, and those of single calls."""
    for source in SOURCES:
        importlib.import_module(".".join(source.relative_to(ROOT).with_suffix("").parts))
    kinds, waiting = {}, [Refusal]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        kinds[kind.__name__] = kind
    found = {(kind.status, kind.reason) for kind in kinds.values()}
    for node in (node for source in SOURCES for node in ast.walk(ast.parse(source.read_text()))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in kinds:
            reasons = [each.value for each in node.keywords if each.arg == "reason"]
            status = kinds[node.func.id].status
            found |= {(status, reason.value) for reason in reasons if isinstance(reason, ast.Constant)}
    return found


def documented_reasons(operation: dict) -> set[tuple[int, str]]:
    """Return the statuses of an operation, with the reasons that their JSON may have."""

    def within(schema: object) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(within, schema))
        if not isinstance(schema, dict):
            return set()
        own = schema.get("properties", {}).get("reason", {}).get("enum", [])
        return set(own) | within(schema.get("anyOf", [])) | within(schema.get("allOf", []))

    return {
        (int(status), reason)
        for status, response in resolved(operation["responses"]).items()
        for reason in within(response.get("content", {}).get("application/json", {}).get("schema"))
    }


def test_routes(app):
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {(method, path) for method, path, _ in OPERATIONS} == routes


def test_statuses_and_reasons():
    documented = set().union(*(documented_reasons(operation) for *_, operation in OPERATIONS))
    assert documented == refusals()


def test_statuses_of_a_rollout():
    statuses = {str(status) for status in STATUS_OF.values()}
    for method, path, operation in OPERATIONS:
        if path.startswith("/deployment"):
            assert statuses <= set(operation["responses"]), (method, path)


@pytest.mark.parametrize(
    ("schema", "model"), [("Signal", parsing.DeployFields), ("RollbackSignal", parsing.RollbackFields)]
)
def test_fields_of_a_signal(schema, model):
    assert set(SCHEMAS[schema]["properties"]) == {"pw", *model.model_fields}


@pytest.mark.parametrize(("name", "model"), [("Rollout", Rollout), ("Replicas", Replicas), ("Cause", PodProblem)])
def test_fields_of_answers(name, model):
    documented = SCHEMAS[name]["properties"]
    answered = {field.alias or name for name, field in model.model_fields.items()}
    if model is Rollout:
        answered |= {"history", "ignored", "locked"}
    assert set(documented) == answered


def test_fields_of_the_overview():
    required = set(SCHEMAS["Standing"]["required"])
    assert required == {field.alias or name for name, field in Rollout.model_fields.items()} | {"locked"}
    assert set(SCHEMAS["Standing"]["properties"]["phase"]["enum"]) == set(page.PHASES)


def test_every_answer_about_a_rollout_has_markdown():
    about_a_rollout = {"$ref": "#/components/schemas/Rollout"}
    for name, response in SPEC["components"]["responses"].items():
        schema = response["content"].get("application/json", {}).get("schema", {})
        is_about_one = about_a_rollout in (schema, *schema.get("anyOf", []))
        assert ("text/markdown" in response["content"]) == is_about_one, name


def test_examples_of_markdown():
    def record(revision: int, **fields: object) -> Record:
        started = datetime(2026, 11, 22, 20, revision, 3, 123456, tzinfo=UTC)
        rollout = Rollout(
            id=started.strftime("%Y%m%dT%H%M%S.%fZ"),
            deployment="web",
            namespace="default",
            image=f"acme/web:{revision}",
            revision=revision,
            started_at=started,
            finished_at=started + timedelta(seconds=4),
            **fields,
        )
        return Record(rollout=rollout, template={}, cause=f"Release {revision} by Jane Doe")

    worked = {"phase": Phase.COMPLETE, "message": "3 pods are ready"}
    problem = PodProblem(
        pod="web-7d9c6c8b5f-x2x7k",
        container="web",
        reason="CrashLoopBackOff",
        exit_code=1,
        message="restarted once",
        logs=("Traceback (most recent call last):", "KeyError: 'DATABASE_URL'"),
    )
    changes = ("image: acme/web:7 -> acme/web:8", "env DATABASE_URL removed")
    failed = record(8, phase=Phase.FAILED, message="does not start", problems=(problem,), changes=changes)
    records = {each.rollout.id: each for each in (failed, record(7, **worked), record(6, **worked))}
    way_back = (
        'curl --data "{\\"pw\\": \\"$PASSWORD\\", \\"wait\\": true}" https://deploy.example.com/deployment/web/rollback'
    )
    for name, each in zip(("Failed", "Complete"), records.values(), strict=False):
        example = SPEC["components"]["responses"][name]["content"]["text/markdown"]["example"]
        assert example == as_markdown(each.rollout, records, way_back)


def test_phases():
    assert SCHEMAS["Rollout"]["properties"]["phase"]["enum"] == [phase.value for phase in Phase]


def test_limits():
    fields = SCHEMAS["Signal"]["properties"]
    assert fields["cause"]["maxLength"] == parsing.MAX_CAUSE_CHARACTERS
    assert (fields["link"]["maxLength"], fields["link"]["pattern"]) == (
        parsing.MAX_LINK_CHARACTERS,
        f"^{parsing.LINK.pattern}$",
    )
    assert f"{parsing.MAX_WAIT_SECONDS} at most" in SCHEMAS["Signal"]["properties"]["wait"]["description"]


def test_every_example_is_valid():
    for *_, operation in OPERATIONS:
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in [*bodies, *resolved(operation["responses"]).values()]:
            for content in body.get("content", {}).values():
                schema = content.get("schema", {"type": "string"})
                examples = [each["value"] for each in content.get("examples", {}).values()]
                for example in examples + [content[key] for key in ("example",) if key in content]:
                    validate(example, schema)
    validate(SCHEMAS["Rollout"]["example"], SCHEMAS["Rollout"])


@pytest.mark.parametrize("path", ["/deployment", "/deployment/rollback"])
def test_every_form_of_a_body_is_read(app, path):
    for content in SPEC["paths"][path]["post"]["requestBody"]["content"].values():
        for name, example in content["examples"].items():
            value = example["value"]
            body = value if isinstance(value, str) else json.dumps(value)
            with app.test_request_context(path, method="POST", data=body):
                assert parsing.read_fields(request)["pw"] == "your-password-here", name


def test_answers(client):
    """Answers of the service have the form that the document says."""
    client.password("dockerhub", "9f86d081884c7d659a2feaa0")
    hook = {"push_data": {"tag": "1"}, "repository": {"repo_name": "acme/web"}}
    password = {"Authorization": f"Bearer {client.right}", "Accept": "application/json"}
    asked = [
        ("POST", "/deployment", "/deployment", {"dry_run": True}),
        ("POST", "/deployment", "/deployment", {}),
        ("POST", "/deployment", "/deployment", {"ref": "refs/heads/main"}),
        ("POST", "/deployment", "/deployment", {"ref": "refs/heads/main", "image": 1}),
        ("POST", "/deployment", "/deployment", {"dry-run": True}),
        ("POST", "/deployment", "/deployment", {"image": 1}),
        ("POST", "/deployment", "/deployment", {"image": "other:1"}),
        ("POST", "/deployment/{name}", "/deployment/other", {}),
        ("POST", "/deployment/rollback", "/deployment/rollback", {}),
        ("GET", "/deployment/{name}", "/deployment/web", None),
        ("GET", "/deployment", "/deployment?id=other", None),
        ("POST", "/dockerhub/{token}", "/dockerhub/9f86d081884c7d659a2feaa0", hook),
        ("POST", "/dockerhub/{token}", "/dockerhub/9f86d081884c7d659a2feaa0", hook | {"callback_url": "https://x"}),
        ("POST", "/dockerhub/{token}", "/dockerhub/wrong", hook),
        ("GET", "/", "/", None),
        ("GET", "/check", "/check", None),
        ("GET", "/healthz", "/healthz", None),
        ("GET", "/readyz", "/readyz", None),
    ]
    for method, path, url, body in asked:
        answer = client.ask(method, url, body, password)
        response = resolved(SPEC["paths"][path][method.lower()]["responses"][str(answer.status)])
        validate(answer.json(), response["content"]["application/json"]["schema"])
        again = client.ask(method, url, body, password | {"Accept": "text/markdown"})
        response = resolved(SPEC["paths"][path][method.lower()]["responses"][str(again.status)])
        assert again.headers.get_content_type() in response["content"]
