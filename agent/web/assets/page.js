// Refreshes the page that the server drew, from the same view as JSON.
// Everything shown was written by other peers at some point: it is only ever
// assigned as text or as an attribute's value, never parsed as markup.

const feed = "/v1/events";
const source = "/page.json";
const gap = 250; // ms between two refreshes that events ask for
const quiet = 2000; // ms between two refreshes without events: ages and leases run
const late = 6000; // ms without a fresh view until the page says so

// --- Binding -------------------------------------------------------------

const pick = (item, path) => path.split(".").reduce((v, k) => v?.[k], item);

function setText(el, value) {
  const text = value == null ? "" : String(value);
  if (el.textContent !== text) el.textContent = text;
}

// Attributes that the templates may bind. A link is one of ours by its first
// character, whatever a name has in it.
function setAttr(el, name, value) {
  if (value === false || value == null || value === "") {
    if (el.hasAttribute(name)) el.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (name === "href" && !/^\/v1\//.test(text)) return;
  if (el.getAttribute(name) !== text) el.setAttribute(name, text);
}

function bind(el, item) {
  const { text, attr, show, each } = el.dataset;
  if (text) setText(el, pick(item, text));
  if (attr) {
    for (const pair of attr.split(" ")) {
      const [name, path] = pair.split(":");
      setAttr(el, name, pick(item, path));
    }
  }
  if (show) {
    const not = show.startsWith("!");
    el.hidden = Boolean(pick(item, not ? show.slice(1) : show)) === not;
  }
  if (each) {
    bindList(el, pick(item, each) ?? []);
    return; // its rows are bound to their own items
  }
  for (const child of el.children) {
    if (child.localName !== "template") bind(child, item);
  }
}

// bindList keeps a row's element as long as its key is there, so that focus,
// selection and scroll survive a refresh.
function bindList(el, items) {
  const template = el.querySelector(":scope > template");
  const rows = new Map();
  for (const row of el.children) {
    if (row === template) continue;
    rows.get(row.dataset.key)?.remove(); // two of one key: keep one
    rows.set(row.dataset.key, row);
  }
  let at = template;
  for (const item of items) {
    let row = rows.get(item.key);
    if (row) {
      rows.delete(item.key);
    } else {
      row = template.content.firstElementChild.cloneNode(true);
      row.dataset.key = item.key;
    }
    bind(row, item);
    if (at.nextElementSibling !== row) at.after(row);
    at = row;
  }
  for (const row of rows.values()) row.remove();
}

// --- Refreshing ----------------------------------------------------------

const byId = (id) => document.getElementById(id);
const stale = byId("stale");
const pulse = byId("pulse");
let fresh = Date.now(); // when the newest view came
let trouble = "";
let view = null;
let paused = false;
let stream = null;
let timer = 0;
let busy = false;
let again = false;

async function refresh() {
  clearTimeout(timer);
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const answer = await fetch(source, {
      headers: { Accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(10000),
    });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    const next = await answer.json();
    if (paused && view) next.events = view.events;
    view = next;
    fresh = Date.now();
    trouble = "";
    draw();
  } catch (err) {
    trouble = err instanceof TypeError ? "the agent does not answer" : err.message;
  }
  busy = false;
  tell();
  if (document.hidden) return;
  // A large cluster makes a large view: ask for it less often.
  const pace = again ? gap : Math.max(quiet, (view?.members.rows.length ?? 0) * 10);
  again = false;
  timer = setTimeout(refresh, pace);
}

function soon() {
  if (busy) {
    again = true;
    return;
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, Math.max(0, gap - (Date.now() - fresh)));
}

function draw() {
  const focus = document.activeElement;
  arrange(view.members.rows);
  bind(document.head, view);
  bind(document.body, view);
  sift();
  // A row that moved has lost it.
  if (focus !== document.activeElement && focus?.isConnected) focus.focus({ preventScroll: true });
}

// tell says how old what is shown is: old figures must not look like fresh ones.
function tell() {
  const age = Date.now() - fresh;
  const live = stream?.readyState === EventSource.OPEN;
  const old = age > late + (view?.members.rows.length ?? 0) * 20;
  document.documentElement.toggleAttribute("data-stale", old);
  pulse.hidden = false;
  pulse.toggleAttribute("data-live", live && !old);
  setText(pulse, old ? "not live" : live ? "live" : "every 2 s");
  stale.hidden = !old;
  byId("old").hidden = !old; // in the verdict's live region: said once
  if (old) {
    const why = trouble || "no news from the agent";
    setText(stale, `What follows is ${Math.round(age / 1000)} s old: ${why}. Trying again.`);
  }
}

function listen() {
  stream?.close();
  stream = new EventSource(feed);
  stream.onopen = soon;
  stream.onerror = () => {
    // A browser gives up for good on an answer that is no stream.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => !document.hidden && listen(), 5000);
    tell();
  };
  for (const type of [
    "joined", "updated", "suspect", "alive", "failed", "left", "forgotten", "reset",
    "lock_acquired", "lock_released", "lock_lost", "redis_up", "redis_down",
  ]) stream.addEventListener(type, soon);
  stream.onmessage = soon;
}

// A hidden page takes no connection: browsers have six for a host.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    stream?.close();
    clearTimeout(timer);
    return;
  }
  listen();
  refresh();
});

// --- Tools that need a script ---------------------------------------------

const table = byId("members-table");
const filter = byId("filter");
const none = byId("no-match");
let order = null; // {by, number, down}, or null for the agent's own order

function arrange(rows) {
  if (!order) return;
  const sign = order.down ? -1 : 1;
  const { by, number } = order;
  rows.sort((a, b) => sign * (number ? a[by] - b[by] : a[by].localeCompare(b[by], "en", { numeric: true })));
}

// sift hides the rows in which a word of the filter is missing.
function sift() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...table.tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((w) => text.includes(w));
    if (!row.hidden) shown++;
  }
  none.hidden = shown > 0 || rows.length === 0;
  if (words.length) setText(byId("members-note"), `${shown} of ${rows.length}`);
  else if (view) setText(byId("members-note"), view.members.total);
}

for (const th of table.tHead.rows[0].cells) {
  const by = th.dataset.sort;
  if (!by) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = th.textContent;
  th.replaceChildren(button);
  button.addEventListener("click", () => {
    if (order?.by !== by) order = { by, number: th.dataset.kind === "number", down: false };
    else if (!order.down) order.down = true;
    else order = null; // back to the agent's own order
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    if (order) th.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    refresh();
  });
}

filter.hidden = false;
filter.addEventListener("input", sift);

const pause = byId("pause");
pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  setText(pause, paused ? "resume" : "pause");
  if (!paused) refresh();
});

listen();
sift();
timer = setTimeout(refresh, quiet);
setInterval(tell, 1000);
