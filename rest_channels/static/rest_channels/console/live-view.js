/* A subscription, a window or a watch: a table that highlights what changed, beside its events. */

import { announce, brief, button, fill, find, make, timeText } from "./dom.js";

const MOST_ROWS = 200;
const MOST_COLUMNS = 14;
const MOST_EVENTS = 100;

/** How many events the server sends before the first is acknowledged: few, so that one sees it. */
export const CREDIT = 20;

export function createLiveViews(openApi) {
  const panels = new Set();
  const box = find("#live-panels");

  function count() {
    find("#live-count").textContent = panels.size ? ` (${panels.size})` : "";
    find("#live-none").hidden = panels.size > 0;
  }

  /** Follow what a frame asks for. */
  function follow(stream, frame, key) {
    const panel = createPanel(stream, frame, key, () => {
      panels.delete(panel);
      panel.element.remove();
      count();
    });
    panels.add(panel);
    box.prepend(panel.element);
    panel.open(openApi());
    count();
  }

  return {
    follow,
    /** The connection is another one, with another user perhaps: ask again. */
    reopen(api) {
      for (const panel of panels) panel.open(api);
    },
    get statuses() {
      return [...panels].map((panel) => panel.status);
    },
  };
}

function createPanel(stream, frame, keyField, remove) {
  let live = null;
  let before = new Map();
  let answer;
  let events = [];
  const isWatch = frame.action === "watch";
  const title = isWatch
    ? `${stream} · watch ${frame.of}`
    : `${stream} · ${frame.pk === undefined ? (frame.window ? `first ${frame.window}` : "list") : `row ${frame.pk}`}`;
  const status = make("span", { class: "live-status", role: "status" });
  const table = make("table", {});
  const log = make("ol", { class: "events", "aria-label": `Events of ${title}`, tabIndex: 0 });
  const note = make("p", { class: "field-error" });
  const more = button("10 more rows", () => live.grow(10), { hidden: true });
  const element = make(
    "article",
    { class: "panel", "aria-label": title },
    make(
      "header",
      {},
      make("h3", {}, title),
      make("code", {}, brief(frame.query ?? {}, 80)),
      status,
      more,
      button("Stop", () => (live?.stop(), remove())),
    ),
    note,
    make(
      "div",
      { class: "live-body" },
      make(
        "div",
        { class: "table-box", tabIndex: 0, role: "region", "aria-label": `Rows of ${title}` },
        table,
      ),
      log,
    ),
  );

  function open(api) {
    live?.stop();
    before = new Map();
    answer = undefined;
    const { query, pk, headers, window } = frame;
    const known = new Set([
      "action",
      "of",
      "query",
      "pk",
      "headers",
      "window",
      "data",
      "fence",
      "method",
      "request_id",
      "snapshot",
      "credit",
      "ordered",
      "since",
      "held",
    ]);
    const lookups = Object.fromEntries(Object.entries(frame).filter(([name]) => !known.has(name)));
    const mine = isWatch
      ? api.stream(stream).watch(frame.of, {
          query,
          pk,
          headers,
          ...(Object.keys(lookups).length ? { lookups } : {}),
        })
      : api.stream(stream).live({
          query,
          pk,
          headers,
          credit: CREDIT,
          ...(window ? { window } : {}),
          ...(Object.keys(lookups).length ? { lookups } : {}),
        });
    live = mine;
    mine.subscribe(() => live === mine && draw());
    if (!isWatch) readChanges(mine);
    draw();
  }

  /** @param {AsyncIterable<any>} list */
  async function readChanges(list) {
    try {
      for await (const change of list) if (live === list) tell(change);
    } catch (error) {
      if (live === list) fill(note, error.message);
    }
  }

  function tell({ type, key, rows, after }) {
    const what =
      type === "reset"
        ? `${rows.length} rows`
        : `row ${brief(key, 40)}${after === undefined ? "" : after === null ? ", first" : `, after ${brief(after, 40)}`}`;
    record(type, what);
    if (type !== "reset") announce(`${stream}: ${type} of row ${brief(key, 40)}`);
  }

  function record(type, what) {
    events.unshift([Date.now(), type, what]);
    events.length = Math.min(events.length, MOST_EVENTS);
    fill(
      log,
      events.map(([at, type, what]) =>
        make(
          "li",
          {},
          make("time", {}, timeText(at)),
          make("span", { class: `event ${type}` }, type),
          make("span", {}, what),
        ),
      ),
    );
  }

  function draw() {
    const snapshot = live.getSnapshot();
    fill(status, snapshot.status);
    status.dataset.status = snapshot.status;
    fill(note, snapshot.error ? brief(snapshot.error.errors, 300) : "");
    more.hidden = !snapshot.hasMore || !frame.window;
    if (isWatch) drawAnswer(snapshot.data);
    else drawRows(snapshot.rows);
  }

  function drawAnswer(data) {
    const rows = rowsIn(data);
    if (answer !== undefined && data !== answer) {
      record("change", brief(data, 60));
      announce(`${stream}: the watched answer changed`);
    }
    answer = data;
    drawRows(rows);
  }

  function drawRows(rows) {
    const shown = rows.slice(0, MOST_ROWS);
    const columns = [...new Set(shown.flatMap((row) => Object.keys(row)))].slice(0, MOST_COLUMNS);
    const isFirst = before.size === 0;
    const now = new Map();
    const lines = shown.map((row, at) => {
      const key = row[keyField] ?? at;
      const former = before.get(key);
      const cells = Object.fromEntries(columns.map((name) => [name, brief(row[name] ?? "", 160)]));
      now.set(key, cells);
      const isNew = !former && !isFirst;
      return make(
        "tr",
        { class: isNew ? "new" : "", "data-key": String(key) },
        columns.map((name) =>
          make(
            "td",
            { class: former && former[name] !== cells[name] ? "changed" : "" },
            cells[name],
          ),
        ),
      );
    });
    before = now;
    fill(
      table,
      make(
        "caption",
        {},
        `${rows.length} ${rows.length === 1 ? "row" : "rows"}${rows.length > MOST_ROWS ? `, the first ${MOST_ROWS} shown` : ""}`,
      ),
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          columns.map((name) => make("th", { scope: "col" }, name)),
        ),
      ),
      make("tbody", {}, lines),
    );
  }

  return {
    element,
    open,
    get status() {
      return live?.getSnapshot().status;
    },
  };
}

/** Return what a watched answer shows as rows: those of a page, of a list, or the answer itself. */
function rowsIn(data) {
  if (data === undefined || data === null) return [];
  const rows = Array.isArray(data) ? data : Array.isArray(data.results) ? data.results : [data];
  return rows.map((row) => (row !== null && typeof row === "object" ? row : { value: row }));
}
