"""The tags of NOTIFY_URLS_FILE say which messages a URL gets. Apprise reads them."""

import http.server
import threading

import pytest

from rollout.notify import Notifier, unusable_lines
from tests.conftest import deployment
from tests.rollout.helpers import quiet_client
from tests.service import wait_for

TOKEN = "chat-token-0123456789"
WRONG_TAG = 'one of its tags is neither "failed" nor the name of a deployment'
WRONG_URL = "Apprise can't use this URL"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "manifests").mkdir()
    for name in ("web", "api", "worker"):
        (tmp_path / "manifests" / f"{name}.yaml").write_text("")
    return tmp_path


@pytest.fixture
def names(chat, folder):
    """Send a message; return which lines of the file have got it, by the names that their URLs give them."""

    def send(lines, name, failed=False):
        chat.messages.clear()
        write(folder / "urls", chat.port, lines)
        assert Notifier(folder / "urls", folder / "manifests").send("title", "text", name, failed) is True
        return sorted(each["got_by"] for each in chat.messages)

    return send


def write(file, port, lines):
    """Write a file of URLs: `web=>a` is a line with the tag `web`, whose URL is called `a`."""
    urls = [
        line.replace(">", f"json://user:{TOKEN}@127.0.0.1:{port}/?:got_by=") if ">" in line else line for line in lines
    ]
    file.write_text("".join(f"{url}\n" for url in urls))


EVERY_TAG = [">all", "failed=>failures", "web=>web", "web,api=>both", "web,failed=>web-failures", "api failed = >api"]


@pytest.mark.parametrize(
    ("name", "failed", "expected"),
    [
        ("web", False, ["all", "both", "web"]),
        ("web", True, ["all", "both", "failures", "web", "web-failures"]),
        ("api", False, ["all", "both"]),
        ("api", True, ["all", "api", "both", "failures"]),
        ("worker", False, ["all"]),
        ("worker", True, ["all", "failures"]),
    ],
)
def test_tags_limit_a_url(names, name, failed, expected):
    assert names(EVERY_TAG, name, failed) == expected


def test_tags_are_read_as_apprise_reads_them(names):
    assert names(["Web=>case", "web,,=>comma", "=>none", "  web\t=  >space", "2:web=>priority"], "web") == [
        "case",
        "comma",
        "none",
        "priority",
        "space",
    ]


def test_a_message_that_no_url_wants_is_not_sent_again(names):
    assert names(["failed=>a", "api=>b"], "web") == []


def test_several_urls_on_a_line_without_tags_get_it_as_before(names):
    assert names([">a, >b", ">c >d"], "web") == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("wbe=>a", WRONG_TAG),
        ("web,wbe=>a", WRONG_TAG),
        ("failed,wbe=>a", WRONG_TAG),
        ("all=>a", WRONG_TAG),
        ("web==>a", WRONG_URL),
        ("web=nonsense://a", WRONG_URL),
        ("web=json://127.0.0.1, json://127.0.0.1", WRONG_URL),
        ("web=", WRONG_URL),
        ("web=failed", WRONG_URL),
        ("web:3=>a", WRONG_URL),
        ("web.v2=>a", WRONG_URL),
        ("nonsense", WRONG_URL),
    ],
)
def test_a_line_with_something_wrong_gets_nothing_and_is_named_and_the_others_work(
    names, folder, chat, line, problem, caplog
):
    assert names(["# our chats", "", line, "web=>other"], "web", failed=True) == ["other"]
    sentence = f"{folder / 'urls'}, line 3, gets no message: {problem}"
    assert unusable_lines(folder / "urls", folder / "manifests") == [sentence]
    assert TOKEN not in caplog.text


def test_a_new_deployment_makes_its_tag_a_right_one(folder, chat):
    write(folder / "urls", chat.port, ["new=>a"])
    assert len(unusable_lines(folder / "urls", folder / "manifests")) == 1
    (folder / "manifests" / "new.yaml").write_text("")
    assert unusable_lines(folder / "urls", folder / "manifests") == []


def test_where_the_deployments_cannot_be_listed_no_tag_is_called_wrong(folder, chat):
    write(folder / "urls", chat.port, ["web=>a", "nonsense"])
    assert [each[-len(WRONG_URL) :] for each in unusable_lines(folder / "urls", folder / "away")] == [WRONG_URL]
    chat.messages.clear()
    assert Notifier(folder / "urls", folder / "away").send("title", "text", "web", failed=False) is True
    assert len(chat.messages) == 1


def test_a_file_without_a_usable_line_leaves_the_message_to_be_sent_later(folder, caplog):
    write(folder / "urls", 1, ["wbe=>a", f"nonsense://{TOKEN}"])
    assert Notifier(folder / "urls", folder / "manifests").send("title", "text", "web", failed=True) is False
    assert "no line of NOTIFY_URLS_FILE can be used" in caplog.text
    assert TOKEN not in caplog.text


def test_an_include_fetches_and_opens_nothing(names, folder):
    """Apprise's own directive could read any file of the pod, or ask any server."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_GET

    included = folder / "included"
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/config"
        included.write_text(url)
        lines = [f"include {url}", f"include {included}", f"include file://{included}", f"web=include {url}", ">a"]
        assert names(lines, "web") == ["a"]
        server.shutdown()
    assert asked == []
    named = unusable_lines(folder / "urls", folder / "manifests")
    assert named == [f"{folder / 'urls'}, line {number}, gets no message: {WRONG_URL}" for number in (1, 2, 3, 4)]


def test_a_verdict_goes_to_the_urls_that_want_it(admin, chat, cluster, tmp_path, capsys):
    urls = tmp_path / "urls"
    write(urls, chat.port, [">all", "failed=>failures", "api=>api", "wbe=>wrong", "web,failed=>web-failures"])
    chat.messages.clear()
    client = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0", NOTIFY_URLS_FILE=str(urls))
    client.reset(cluster.namespace)
    client.configure("api", deployment("api", "acme/api:1"))
    assert client.deploy("web").status == 200
    assert client.deploy("api", image="acme/api:missing").status == 424
    assert client.deploy("web", image="acme/web:missing").status == 424
    wait_for(lambda: len(chat.about(cluster.namespace)) == 7)
    got = {(each["title"].split()[0], each["type"], each["got_by"]) for each in chat.about(cluster.namespace)}
    assert got == {
        ("web", "success", "all"),
        ("api", "failure", "all"),
        ("api", "failure", "failures"),
        ("api", "failure", "api"),
        ("web", "failure", "all"),
        ("web", "failure", "failures"),
        ("web", "failure", "web-failures"),
    }
    assert client.get("/readyz").text == f"ok\n{urls}, line 4, gets no message: {WRONG_TAG}\n"
    assert client.get("/check", Authorization=f"Bearer {client.right}").text.endswith(
        f"\nwarning: {urls}, line 4, gets no message: {WRONG_TAG}\n"
    )
    assert TOKEN not in capsys.readouterr().err
