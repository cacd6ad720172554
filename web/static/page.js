// Keeps a page as new as the service knows, and sends a rollback that is asked for. Without it, the page reloads itself.
"use strict";
(() => {
  const WAIT_SECONDS = 25, MIN_PAUSE = 2000, LONG_PAUSE = 10000;
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"]];
  const skew = Date.parse(document.body.dataset.now) - Date.now();
  const byId = (id) => document.getElementById(id);
  const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
  let key = "";

  // In the words of page.py.
  function span(seconds) {
    const [size, unit] = UNITS.find(([each]) => seconds >= each) || [1, "s"];
    return `${Math.max(0, Math.floor(seconds / size))} ${unit}`;
  }

  function writeTimes() {
    const seconds = (time) => (Date.now() + skew - Date.parse(time)) / 1000;
    const write = (element, text) => { if (element.textContent !== text) element.textContent = text; };
    for (const each of document.querySelectorAll("time[data-ago]")) write(each, `${span(seconds(each.dateTime))} ago`);
    for (const each of document.querySelectorAll("[data-since]")) write(each, span(seconds(each.dataset.since)));
  }

  function showButtons() {
    for (const each of document.querySelectorAll("button[data-revision]")) each.hidden = false;
  }

  // Without the relative times, which differ each time.
  function written(part) {
    const copy = part.cloneNode(true);
    for (const each of copy.querySelectorAll("time, [data-since]")) each.textContent = "";
    for (const each of copy.querySelectorAll("button")) each.hidden = true;
    return copy.innerHTML;
  }

  const parts = (root) => [...root.querySelectorAll("[data-part]")];
  const names = (root) => parts(root).map((each) => each.id).join(" ");

  function update(html) {
    const fresh = new DOMParser().parseFromString(html, "text/html");
    const focused = document.activeElement && document.activeElement.id;
    if (!byId("main") || !fresh.getElementById("main")) return;
    if (names(document) === names(fresh)) {
      for (const part of parts(fresh)) {
        const old = byId(part.id);
        if (written(old) !== written(part)) old.replaceChildren(...part.childNodes);
      }
    } else {
      // Another kind of page: what was not there before is there now, or the other way round.
      location.reload();
    }
    document.title = fresh.title;
    document.body.dataset.tag = fresh.body.dataset.tag;
    document.body.toggleAttribute("data-running", "running" in fresh.body.dataset);
    showButtons();
    writeTimes();
    if (focused && document.activeElement === document.body && byId(focused)) byId(focused).focus({preventScroll: true});
  }

  // Ask what differs from what is shown: the service answers when something does. Return how long to wait before the next.
  async function ask() {
    const url = new URL(location.href);
    url.searchParams.set("wait", WAIT_SECONDS);
    url.hash = "";
    const headers = {Accept: "text/html", "If-None-Match": `"${document.body.dataset.tag}"`};
    const answer = await fetch(url, {headers, cache: "no-store"});
    const isPage = (answer.headers.get("Content-Type") || "").startsWith("text/html");
    if (answer.status === 401 || (answer.status !== 304 && !isPage)) throw new Error(`status ${answer.status}`);
    if (answer.status >= 500) throw new Error("the service can't answer");
    if (answer.status !== 304) update(await answer.text());
    return answer.headers.has("Retry-After") ? LONG_PAUSE : answer.status === 404 ? 2 * MIN_PAUSE : MIN_PAUSE;
  }

  async function follow() {
    for (;;) {
      // A page that nobody sees asks nothing, unless a rollout goes on whose end the tab's title will tell.
      while (document.hidden && !("running" in document.body.dataset)) {
        await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, {once: true}));
      }
      const started = performance.now();
      let wait;
      try {
        wait = await ask();
        byId("connection").textContent = "";
      } catch {
        byId("connection").textContent = "Not connected; trying again.";
        wait = LONG_PAUSE / 2;
      }
      // Counted from the start of the request, but after a busy service's answer: a request that has waited is enough.
      await pause(wait > MIN_PAUSE ? wait : Math.max(0, wait - (performance.now() - started)));
    }
  }

  function open(button) {
    // One key for each question: however often the answer is clicked, it is one rollback.
    key = [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
    byId("ask-revision").textContent = byId("ask").dataset.revision = button.dataset.revision;
    byId("ask-image").textContent = button.dataset.image;
    byId("ask-error").textContent = "";
    byId("ask-yes").disabled = false;
    byId("ask").showModal();
  }

  async function rollBack() {
    const dialog = byId("ask");
    byId("ask-yes").disabled = true;
    byId("ask-error").textContent = "";
    try {
      const headers = {"Content-Type": "application/json", Accept: "application/json", "Idempotency-Key": key};
      const body = JSON.stringify({revision: Number(dialog.dataset.revision)});
      const answer = await fetch(dialog.dataset.url, {method: "POST", headers, body});
      const data = await answer.json();
      if (data.error) throw new Error(data.error);
      dialog.close();
      if (location.search) location.assign(location.pathname);
    } catch (error) {
      byId("ask-error").textContent = error.message;
      byId("ask-yes").disabled = false;
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button && button.dataset.revision) open(button);
    if (button && button.id === "ask-yes") rollBack();
  });
  showButtons();
  writeTimes();
  setInterval(writeTimes, 1000);
  follow();
})();
