"""GET / and the pages, as far as no browser is needed: the data, the statuses, the headers, the waiting."""

import gzip
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import deployment
from tests.rollout.helpers import quiet_client
from tests.service import PASSWORD, ROOT
from tests.web.helpers import WRONG_PASSWORD, basic
from version import VERSION

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
ATTACK = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
MAX_PAGE_BYTES = 60_000


@pytest.fixture
def service(quick_service):
    return quick_service


def browse(service, path="/", **headers):
    """Ask as a browser does that knows the password."""
    return service.get(path, **{"Accept": BROWSER, "Authorization": basic(PASSWORD), **headers})


def overview(service, password=PASSWORD):
    answer = service.get("/", Accept="application/json", Authorization=f"Bearer {password}")
    assert answer.status == 200
    return {each["deployment"]: each for each in answer.json()["deployments"]}


def test_the_overview_has_every_deployment_that_the_credentials_open(service):
    service.configure("api", deployment("api"))
    service.password("api", "the-password-of-the-api")
    shown = service.deploy().json()
    found = overview(service)
    assert list(found) == ["api", "web"]
    del shown["history"]
    assert found["web"] == shown
    assert list(overview(service, "the-password-of-the-api")) == ["api"]


def test_the_foot_says_which_version_runs_to_those_alone_who_have_the_password(service):
    assert f"<footer>auto-deployer {VERSION}</footer>" in browse(service).text
    assert VERSION not in service.get("/", Accept=BROWSER).text


def test_what_is_not_in_the_cluster_is_absent_and_what_has_a_bad_manifest_is_invalid(service):
    service.configure("api", "kind: Pod")
    found = overview(service)
    known = {"deployment", "namespace", "phase", "message", "causes", "changes"}
    assert (found["web"]["phase"], found["api"]["phase"]) == ("absent", "invalid")
    assert "api.yaml: kind: must be Deployment" in found["api"]["message"]
    assert found["web"]["namespace"] == service.namespace
    assert {value for name, value in found["web"].items() if name not in known} == {None}


def test_the_overview_in_text_has_a_line_for_each(service, cluster):
    service.configure("api", deployment("api"))
    service.deploy()
    cluster.patch({"metadata": {"annotations": {"auto-deployer/locked": "a migration\nruns"}}})
    lines = service.get("/", Authorization=f"Bearer {PASSWORD}").text.splitlines()
    assert lines == [
        "ok: api: absent: it isn't in the cluster yet; the first signal creates it",
        "ok: web: complete: 1 pod is ready, revision 1, image acme/web:1, locked: a migration runs",
    ]


def test_what_another_client_rolls_out_is_shown_too(service, cluster):
    cluster.create(deployment(image="acme/web:9", namespace=cluster.namespace, replicas=2))
    cluster.wait_for(lambda: cluster.get().get("status", {}).get("availableReplicas") == 2)
    web = overview(service)["web"]
    detail = service.show().json()
    same = ("id", "image", "phase", "message", "revision", "replicas", "by")
    assert [web[name] for name in same] == [detail[name] for name in same]


@pytest.mark.simulated_only
def test_a_namespace_without_rights_hides_no_other(service, cluster):
    service.configure("api", deployment("api", namespace="elsewhere"))
    service.deploy()
    found = overview(service)
    assert (found["web"]["phase"], found["api"]["phase"]) == ("complete", "unknown")
    assert "cannot get resource" in found["api"]["message"]


@pytest.mark.simulated_only
def test_the_overview_costs_two_calls_and_none_while_nothing_changes(admin, cluster, tmp_path):
    service = quiet_client(tmp_path, KUBECONFIG=str(admin.kubeconfig), SETTLE_SECONDS="0")
    service.reset(cluster.namespace)
    names = [f"web-{number}" for number in range(20)]
    (service.deployments_dir / "web.yaml").unlink()
    for name in names:
        service.configure(name, deployment(name))
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(service.deploy, names))
    cluster.wait_for(lambda: len(cluster.simulation.list("configmaps", cluster.namespace)) == 20)

    def calls():
        before = len(cluster.requests)
        assert {each["phase"] for each in overview(service).values()} == {"complete"}
        return len(cluster.requests) - before

    assert calls() == 40
    assert calls() == 0
    service.deploy(names[0], image="acme/web:2")
    assert overview(service)[names[0]]["image"] == "acme/web:2"


@pytest.mark.parametrize("path", ["/", "/deployment/web", "/deployment", "/check", "/deployment/nothing"])
def test_a_browser_without_the_password_is_asked_for_it_and_learns_nothing(service, path):
    for headers in ({}, {"Authorization": basic("a-wrong-password")}):
        answer = service.get(path, Accept=BROWSER, **headers)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (
            401,
            'Basic realm="auto-deployer", charset="UTF-8"',
        )
        assert WRONG_PASSWORD in answer.text
        assert "web" not in answer.text.replace("web site", "")


def test_a_browser_with_the_password_of_another_deployment_learns_nothing(service):
    service.configure("api", deployment("api"))
    service.password("api", "the-password-of-the-api")
    for path in ("/deployment/web", "/deployment/nothing"):
        answer = browse(service, path, Authorization=basic("the-password-of-the-api"))
        assert answer.status == 401
        assert service.get(path, Authorization=basic("the-password-of-the-api")).status == 403


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/markdown", "text/plain, text/html;q=0.5", ""])
def test_every_other_request_without_the_password_is_a_403(service, accept):
    for path in ("/", "/deployment/web", "/check"):
        answer = service.get(path, Accept=accept)
        assert answer.status == 403
        assert "WWW-Authenticate" not in answer.headers
    answer = service.post("/deployment/web", {"pw": "wrong"}, Accept=BROWSER)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (403, None)


def test_the_pages_headers(service):
    service.deploy()
    for path in ("/", "/deployment/web", "/deployment", "/deployment/nothing"):
        headers = browse(service, path).headers
        assert headers.get_content_type() == "text/html"
        assert headers["Content-Security-Policy"] == CSP
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_the_page_is_small_and_asks_no_other_host(service):
    for tag in range(3):
        service.deploy(image=f"acme/web:{tag}")
    for path in ("/", "/deployment/web", "/deployment", "/deployment/web/"):
        page = browse(service, path)
        files = re.findall(r'(?:src|href)="([^"]*static/[^"]+)"', page.text)
        assert len(files) == 3
        size = len(page.text.encode())
        base = path.rpartition("/")[0]
        for file in files:
            up, _, name = file.rpartition("static/")
            folder = base.split("/")[: len(base.split("/")) - up.count("../")]
            answer = service.get("/".join([*folder, "static", name]))
            assert (answer.status, answer.headers["X-Content-Type-Options"]) == (200, "nosniff")
            size += len(answer.text.encode())
        assert size < MAX_PAGE_BYTES
        assert "http" not in re.sub(r'http-equiv="refresh"', "", page.text)


def test_a_page_is_packed_where_the_browser_can_unpack_it(client):
    headers = {"Accept": BROWSER, "Authorization": basic(PASSWORD)}
    plain = client.app.test_client().get("/", headers=headers)
    packed = client.app.test_client().get("/", headers=headers | {"Accept-Encoding": "gzip, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    title = b"<title>1 deployment "
    assert title in plain.data
    assert title in gzip.decompress(packed.data)
    assert packed.headers["Vary"] == "Accept, Accept-Encoding"


def test_whatever_comes_from_outside_is_text(service, cluster):
    service.deploy(cause=ATTACK, link="https://example.com/?a=b&c='")
    cluster.patch({"metadata": {"annotations": {"auto-deployer/locked": ATTACK}}})
    for path in ("/", "/deployment/web"):
        text = browse(service, path).text
        assert "<script>" not in text
        assert "<img" not in text
        assert "&lt;script&gt;" in text


def test_a_link_that_is_no_web_address_is_no_link(client, cluster):
    from web.page import safe_link

    assert safe_link("javascript:alert(1)") is None
    assert safe_link("https://example.com") == "https://example.com"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "same-origin", "Origin": "https://elsewhere.example"}, 200),
        ({"Sec_Fetch_Site": "none"}, 200),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://"}, 403),
        ({"Origin": "https://deploy.example.com", "Host": "deploy.example.com"}, 200),
        ({"Origin": "https://Deploy.example.com", "Host": "deploy.example.com:443"}, 200),
        ({"Origin": "https://deploy.example.com.elsewhere.example", "Host": "deploy.example.com"}, 403),
        ({"Origin": "http://deploy.example.com:8080", "Host": "deploy.example.com"}, 403),
        ({}, 200),
    ],
)
def test_a_post_of_another_site_does_nothing(service, cluster, headers, status):
    headers = {"Accept": "application/json", "Authorization": basic(PASSWORD), **headers}
    answer = service.post("/deployment/web", {}, **headers)
    assert answer.status == status
    assert (cluster.get() is None) == (status == 403)
    if status == 403:
        assert answer.json()["reason"] == "CrossSite"
        assert service.post("/dockerhub/x", {}, **headers).json()["reason"] == "CrossSite"


def test_without_the_script_it_reloads_only_while_a_rollout_goes_on(service):
    service.signal("web", image="acme/web:unready")
    for path in ("/", "/deployment/web"):
        assert '<noscript><meta http-equiv="refresh" content="4"></noscript>' in browse(service, path).text
    service.deploy()
    for path in ("/", "/deployment/web"):
        assert "refresh" not in browse(service, path).text


def test_a_page_waits_for_news(service):
    service.deploy()
    for path in ("/", "/deployment/web"):
        page = browse(service, path)
        tag = page.headers["ETag"]
        assert browse(service, path, If_None_Match=tag).status == 304
        began = time.monotonic()
        assert browse(service, f"{path}?wait=0.5", If_None_Match=tag).status == 304
        assert 0.4 < time.monotonic() - began < 5
        later = threading.Timer(0.5, service.signal, ["web"])
        later.start()
        began = time.monotonic()
        news = browse(service, f"{path}?wait=20", If_None_Match=tag)
        assert news.status in (200, 202)
        assert news.headers["ETag"] != tag
        assert time.monotonic() - began < 5
        later.join()
        service.show(wait=10)


def test_a_page_notices_what_another_client_changes(service, cluster):
    service.deploy()
    tag = browse(service, "/deployment/web").headers["ETag"]
    cluster.patch({"metadata": {"annotations": {"auto-deployer/locked": "Friday"}}})
    answer = browse(service, "/deployment/web?wait=20", If_None_Match=tag)
    assert "Friday" in answer.text


def test_open_pages_leave_room_for_signals_that_wait(service):
    service.deploy()
    tag = browse(service).headers["ETag"]
    with ThreadPoolExecutor(17) as pool:
        asked = [pool.submit(browse, service, "/?wait=2", If_None_Match=tag) for _ in range(17)]
        answers = [each.result() for each in asked]
        assert {answer.status for answer in answers} == {304}
        assert [answer.headers["Retry-After"] for answer in answers].count("10") == 1


def test_links_lead_to_the_page_where_public_url_is_set(services, cluster):
    service = services(SETTLE_SECONDS="0", PUBLIC_URL="https://deploy.example.com/")
    service.reset(cluster.namespace)
    service.deploy()
    service.deploy(image="acme/web:2")
    summary = service.show(accept="text/markdown").text
    assert "[The page of web](https://deploy.example.com/deployment/web) has a button for it." in summary
    assert "curl" not in summary
    events = cluster.wait_for(
        lambda: [each for each in cluster._admin.list("events", cluster.namespace) if "Rollout" in each["reason"]]
    )
    assert re.search(r" https://deploy\.example\.com/deployment/web\?id=\w+\.\w+$", events[0]["message"])


def test_spans_are_the_same_in_the_script():
    script = (ROOT / "web" / "static" / "page.js").read_text()
    assert '[[86400, "d"], [3600, "h"], [60, "min"]]' in script
