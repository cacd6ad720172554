"""The page in a real Chromium: what a person sees of a rollout, and does about it."""

import json
import re
import time
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser import MISSING, chromium, open_page, running_browser
from tests.conftest import deployment
from tests.service import PASSWORD, wait_for

pytestmark = pytest.mark.skipif(chromium() is None, reason=MISSING)

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
ATTACK = "</pre><script>document.title = 'attacked'</script><img src=x onerror=\"document.title = 'attacked'\">"
# Every layout shift so far, and every violation of the content security policy.
OBSERVER = """
    window.shifts = []; window.violations = [];
    const moved = (shift) => shift.sources.map(({node}) => node && (node.id || node.outerHTML || node.textContent));
    new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map(moved)))
        .observe({type: "layout-shift", buffered: true});
    document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def browser():
    with running_browser() as running:
        yield running


@pytest.fixture
def service(quick_service):
    return quick_service


@pytest.fixture
def visit(browser, request):
    """Open a path in a window of its own; no error of the script and no violation of its policy goes unseen."""
    pages, errors = [], []

    def open_path(path="/deployment/web", service=None, **options):
        # Only where a test wants it: a second replica without settling time would be the first with a verdict.
        service = service or request.getfixturevalue("service")
        page = open_page(browser, service.url, **options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if options.get("java_script_enabled", True):
            page.add_init_script(OBSERVER)
        page.goto(path)
        pages.append((page, options.get("java_script_enabled", True)))
        return page

    yield open_path
    for page, has_script in pages:
        if has_script:
            assert page.evaluate("window.violations") == []
        page.context.close()
    assert errors == []


def wait_for_phase(page, phase, revision=None):
    """Wait until the page shows a phase, without a reload."""
    page.locator(f"#phase .{phase}").wait_for()
    if revision:
        page.locator("#revision", has_text=re.compile(rf"^{revision}\b")).wait_for()


def test_a_browser_asks_for_the_password(browser, service):
    context = browser.new_context(base_url=service.url, http_credentials={"username": "x", "password": "wrong"})
    page = context.new_page()
    assert page.goto("/").status == 401
    context.close()
    page = open_page(browser, service.url)
    assert page.goto("/").status == 200
    page.get_by_role("link", name="web").click()
    page.wait_for_url("**/deployment/web")
    page.context.close()


def test_a_rollout_is_watched_to_its_verdict_without_a_reload(service, visit):
    service.deploy()
    page = visit()
    overview = visit("/")
    asked = []
    for each in (page, overview):
        each.evaluate("window.same = true")
    page.on("request", lambda request: asked.append((time.monotonic(), request.url)))
    assert page.locator("#revision").inner_text() == "1"
    # Another program signals, while both tabs watch.
    service.signal("web", image="acme/web:2-slow")
    wait_for_phase(page, "progressing")
    overview.locator("#deployments .progressing").first.wait_for()
    assert page.locator("progress").get_attribute("max") == "1"
    wait_for_phase(page, "complete", 2)
    overview.locator("#deployments .state .complete").wait_for()
    overview.get_by_text("acme/web:2-slow").first.wait_for()
    assert page.title() == "web: complete · auto-deployer"
    # One request at a time, that waits, and never two within two seconds; none to another host.
    assert all(after[0] - before[0] > 1.9 for before, after in pairwise(asked))
    assert {url for _, url in asked} == {f"{service.url}/deployment/web?wait=25"}
    for each in (page, overview):
        assert each.evaluate("window.same")
        assert each.evaluate("window.shifts") == []


def test_a_crash_shows_its_log_and_a_click_rolls_back(patient_service, visit):
    service = patient_service
    service.deploy()
    page, phone = (visit(service=patient_service, viewport=size) for size in (WIDE, PHONE))
    assert service.signal("web", image="acme/web:crash").status == 200
    wait_for_phase(page, "failed", 2)
    assert "KeyError: 'DATABASE_URL'" in page.locator("pre").inner_text()
    assert page.get_by_text("CrashLoopBackOff, exit code 1").is_visible()
    assert page.get_by_text("acme/web:1 -> acme/web:crash").is_visible()
    [button] = page.get_by_role("button", name="Roll back to").all()
    button.click()
    dialog = page.get_by_role("dialog")
    assert "acme/web:1" in dialog.inner_text()
    dialog.get_by_role("button", name="Cancel").click()
    dialog.wait_for(state="hidden")
    assert service.show().json()["revision"] == 2
    button.click()
    with page.expect_request("**/rollback") as sent:
        dialog.get_by_role("button", name="Roll back").click()
    assert json.loads(sent.value.post_data) == {"revision": 1}
    dialog.wait_for(state="hidden")
    wait_for_phase(page, "complete", 3)
    shown = service.show().json()
    assert (shown["phase"], shown["rolled_back_to"], shown["by"]) == ("complete", 1, "password default")
    for each in (page, phone):
        each.get_by_text("3, back to 1").wait_for()
        assert each.evaluate("window.shifts") == []


def test_a_refused_rollback_says_why(service, visit):
    service.deploy()
    service.deploy(image="acme/web:2")
    service.roll_back(revision=1)
    page = visit()
    page.get_by_role("button", name="Roll back to 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    page.get_by_role("alert").filter(has_text="revision 1 is what runs").wait_for()


def test_the_keyboard_is_enough(service, visit):
    service.deploy()
    service.deploy(image="acme/web:2")
    page = visit("/")

    def tab_to(id):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == id:
                return
        raise AssertionError(f"no way to {id}")

    tab_to("open-web")
    page.keyboard.press("Enter")
    page.wait_for_url("**/deployment/web")
    tab_to("roll-back-1")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.id") == "roll-back-1"
    page.keyboard.press("Enter")
    tab_to("ask-yes")
    page.keyboard.press("Enter")
    wait_for_phase(page, "complete", 3)


def test_without_the_script_it_reloads_itself_and_has_no_buttons(service, visit):
    service.deploy()
    service.deploy(image="acme/web:2")
    service.signal("web", image="acme/web:unready")
    page = visit(java_script_enabled=False)
    assert page.get_by_role("button").count() == 0
    wait_for_phase(page, "progressing", 3)
    service.signal("web", image="acme/web:4")
    wait_for_phase(page, "complete", 4)
    assert page.get_by_role("button").count() == 0
    page.goto("/")
    assert page.get_by_role("link", name="web").is_visible()


def test_html_from_outside_is_shown_as_text(service, visit, cluster):
    service.configure("web", deployment(image="acme/web:1"))
    service.deploy(cause=ATTACK)
    cluster.patch({"metadata": {"annotations": {"auto-deployer/locked": ATTACK}}})
    forge_a_log(cluster)
    page = visit()
    page.get_by_text("Locked:").wait_for()
    for place in ("#facts", "#lock", "#history", "#why pre", "#why", "#facts dd code"):
        assert "<script>document.title" in page.locator(place).first.inner_text()
    assert page.title() == "web: failed · auto-deployer"
    assert page.locator("img").count() == 0


def forge_a_log(cluster):
    """Let the newest record have HTML in its image, problem and log, as no API server would let through."""
    records = cluster.wait_for(lambda: cluster.get("auto-deployer-web", "configmaps"))["data"]
    [(key, text)] = records.items()
    record = json.loads(text)
    problem = {
        "reason": ATTACK,
        "message": ATTACK,
        "pod": ATTACK,
        "container": ATTACK,
        "exit_code": 1,
        "logs": [ATTACK],
    }
    record["rollout"] |= {"causes": [problem], "phase": "failed", "image": ATTACK, "changes": [ATTACK]}
    cluster.patch({"data": {key: json.dumps(record)}}, "auto-deployer-web", "configmaps")


def test_axe_finds_no_violation_and_nothing_is_cut_off(service, visit, cluster):
    service.configure("api", "kind: Pod")
    service.configure("a-name-that-is-much-longer-than-a-phone-is-wide", deployment("worker"))
    service.deploy(cause="first " * 40, link="https://example.com/" + "x" * 400)
    service.deploy(image="acme/web:missing")
    cluster.patch({"metadata": {"annotations": {"auto-deployer/locked": "until Monday"}}})
    for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", PHONE)):
        page = visit("/", color_scheme=scheme, viewport=size)
        check_with_axe(page)
        page.goto("/deployment/web")
        check_with_axe(page)
        page.get_by_role("button", name="Roll back to 1").click()
        check_with_axe(page)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(245, 246, 248)") == (scheme == "light")
    page.goto("/deployment/nothing")
    check_with_axe(page)


def check_with_axe(page):
    """Let axe find what keeps people from a page, and see that it isn't wider than its window."""
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_page_asks_seldom_where_too_many_wait(service, visit):
    service.deploy()
    page, asked = visit("/"), []
    page.clock.install()
    page.reload()
    page.route("**/?wait=25", lambda route: (asked.append(1), route.fulfill(status=304, headers={"Retry-After": "10"})))
    service.signal("web")  # It ends the request that waits; the next one is told to come later.
    wait_for(lambda: page.evaluate("1") and asked)
    page.clock.run_for(9000)
    assert len(asked) == 1
    page.clock.run_for(1500)
    wait_for(lambda: page.evaluate("1") and len(asked) == 2)


def test_a_page_says_when_the_service_is_away_and_goes_on_when_it_is_back(service, visit):
    service.deploy()
    page = visit()
    page.route("**/deployment/web?wait=25", lambda route: route.abort())
    service.signal("web")
    page.get_by_role("status").filter(has_text="Not connected").wait_for()
    page.unroute("**/deployment/web?wait=25")
    page.get_by_role("status").filter(has_not_text="Not connected").wait_for(state="attached")
    wait_for_phase(page, "complete", 2)
    assert PASSWORD not in page.content()
