"""Files and lines that do nothing: the log, /readyz and /check name them, and everything else works."""

import pytest

from tests.conftest import InProcess, deployment
from tests.service import PASSWORD

URL = "foo://user:a-token-of-a-chat@chat.example.com"
MISNAMED = "api.yml is ignored: the name of a manifest ends in .yaml"


@pytest.fixture
def urls(tmp_path):
    file = tmp_path / "urls"
    file.write_text(f"# our chats\n\njson://127.0.0.1:9/x\n{URL}\n")
    return file


@pytest.fixture
def started(admin, cluster, urls, tmp_path, capsys):
    """Serve with a file of URLs, and keep what the log says at the start."""
    client = InProcess(tmp_path, KUBECONFIG=str(admin.kubeconfig), NOTIFY_URLS_FILE=str(urls))
    client.reset(cluster.namespace)
    client.at_start = capsys.readouterr().err
    return client


def check(client, path="/check", accept="application/json", password=PASSWORD):
    return client.get(path, Accept=accept, Authorization=f"Bearer {password}")


def test_a_manifest_with_another_suffix_is_named_as_ignored(client, caplog):
    (client.deployments_dir / "api.yml").write_text("")
    (client.deployments_dir / ".hidden.yml").write_text("")
    answer = check(client)
    assert (answer.status, answer.json()["warnings"]) == (200, [MISNAMED])
    first, *advice, last = check(client, accept="text/plain").text.splitlines()
    assert (first, last) == ("ok: web: a deploy would work", f"warning: {MISNAMED}")
    assert all(line.startswith("advice: web: ") for line in advice)
    # Once, however often it is seen.
    assert caplog.messages.count(MISNAMED) == 1
    # Without a password the service names no deployment.
    assert "api" not in client.get("/readyz").text
    (client.deployments_dir / "web.yaml").unlink()
    assert MISNAMED in check(client).json()["error"]


def test_a_password_of_one_deployment_learns_of_no_other_file(client):
    (client.deployments_dir / "api.yml").write_text("")
    client.configure("api", deployment("api", "acme/api:1"))
    for name in ("api", "web"):
        client.password(name, f"only-for-{name}-0123456")
    assert check(client, password="only-for-web-0123456").json()["warnings"] == []
    assert check(client, password="only-for-api-0123456").json()["warnings"] == [MISNAMED]


def test_a_url_that_apprise_cannot_use_is_named_by_its_line(started, urls):
    sentence = f"{urls}, line 4, gets no message: Apprise can't use this URL"
    assert sentence in started.at_start
    for answer, key in ((started.get("/readyz", Accept="application/json"), "problems"), (check(started), "warnings")):
        assert (answer.status, answer.json()[key]) == (200, [sentence])
    assert URL not in started.at_start
    assert "a-token-of-a-chat" not in check(started).text + started.get("/readyz").text
    urls.write_text("json://127.0.0.1:9/x\n")
    assert started.get("/readyz").text == "ok\n"
    assert check(started).json()["warnings"] == []


def test_a_file_of_urls_that_cannot_be_read_is_named(started, urls):
    urls.unlink()
    answer = started.get("/readyz")
    assert (answer.status, answer.text) == (200, "ok\nNOTIFY_URLS_FILE can't be read: FileNotFoundError\n")
