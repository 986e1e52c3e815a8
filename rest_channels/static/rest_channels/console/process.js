/* The staff tab: what this process holds, and who shares what, as it changes. */

import { button, fill, find, make, sizeText } from "./dom.js";

const PAUSE = 2000;

/** @param {string} address @param {{ subscribe(listen: (name: string) => void): void }} tabs */
export function createProcess(address, tabs) {
  let isShown = false;
  let timer;
  let before = {};
  const answers = new Map();

  tabs.subscribe((name) => {
    isShown = name === "process";
    clearTimeout(timer);
    if (isShown) look();
  });

  async function look() {
    clearTimeout(timer);
    if (document.hidden) {
      timer = setTimeout(look, PAUSE);
      return;
    }
    try {
      const answer = await fetch(address, { headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error(`The report could not be read: ${answer.status}.`);
      draw(await answer.json());
      fill(find("#process-error"));
    } catch (error) {
      fill(find("#process-error"), error.message);
    }
    if (isShown) timer = setTimeout(look, PAUSE);
  }

  function draw(report) {
    fill(find("#process-pid"), String(report.pid));
    fill(
      find("#figures"),
      Object.entries(report.stats).map(([name, value]) =>
        make(
          "div",
          { class: name in before && before[name] !== value ? "moved" : "" },
          make("dt", {}, name.replaceAll("_", "_\u200b")),
          make("dd", {}, shown(name, value)),
        ),
      ),
    );
    before = report.stats;
    // A table that is read, or in which a button has the focus, stays as it is.
    const tables = find("#process-tables");
    if (tables.contains(document.activeElement) && document.activeElement.closest("td")) return;
    fill(
      tables,
      section("Audiences", "clients for whom one query is run", report.audiences, AUDIENCES),
      section("Watches", "answers that are kept up to date", report.watches, WATCHES),
      section("Sockets", "", report.connections, CONNECTIONS),
    );
  }

  function section(title, meaning, { total, items }, columns) {
    const names = Object.keys(columns);
    return make(
      "section",
      { class: "process-section" },
      make(
        "h3",
        {},
        `${title} `,
        make(
          "span",
          { class: "quiet" },
          `${total}${total > items.length ? `, ${items.length} shown` : ""}${meaning ? ` · ${meaning}` : ""}`,
        ),
      ),
      total
        ? make(
            "div",
            { class: "table-box", tabIndex: 0, role: "region", "aria-label": title },
            make(
              "table",
              {},
              make(
                "thead",
                {},
                make(
                  "tr",
                  {},
                  names.map((name) => make("th", { scope: "col" }, name)),
                ),
              ),
              make(
                "tbody",
                {},
                items.map((item) =>
                  make(
                    "tr",
                    {},
                    names.map((name) => make("td", {}, columns[name](item))),
                  ),
                ),
              ),
            ),
          )
        : "",
    );
  }

  const seconds = (value) =>
    value === null || value === undefined ? "" : `${(1000 * value).toFixed(1)} ms`;

  const AUDIENCES = {
    rows: ({ model, rows, window }) => `${rows} of ${model}${window ? `, window ${window}` : ""}`,
    clients: ({ subscribers }) => String(subscribers),
    "shared by": ({ texts, answers, reason, id }) => [
      make("p", {}, "texts: ", make("strong", {}, texts)),
      make("p", {}, "decision: ", make("strong", {}, answers)),
      reason ? make("p", {}, reason) : "",
      why(id),
    ],
    SQL: ({ sql, tables }) => [
      make(
        "details",
        {},
        make("summary", {}, sql.length > 60 ? `${sql.slice(0, 59)}…` : sql),
        make("pre", {}, sql),
      ),
      make("p", { class: "quiet" }, `reads ${tables.join(", ")}`),
    ],
    track: ({ track, database }) => `${track} of ${database}`,
    pass: ({ pace }) => seconds(pace),
  };

  const WATCHES = {
    action: ({ title }) => title,
    clients: ({ clients }) => String(clients),
    "answer shared by": ({ answers, reads }) => [
      make("strong", {}, answers),
      reads.length ? make("p", {}, `its code reads the ${reads.join(" and the ")}`) : "",
    ],
    tables: ({ tables }) => tables.join(", "),
    "last run": ({ seconds: value }) => seconds(value),
  };

  const CONNECTIONS = {
    socket: ({ path }) => path,
    user: ({ user, client }) => `${user ?? "stranger"} at ${client}`,
    subscriptions: ({ subscriptions }) => String(subscriptions),
    unread: ({ unread }) => sizeText(unread),
    backlog: ({ backlog }) => sizeText(backlog),
  };

  /** A button that asks which code has read the user; its answer stays. */
  function why(id) {
    const known = answers.get(id);
    if (known) return known;
    const ask = button("Which code reads the user?", async ({ target }) => {
      const answer = await fetch(`${address}${encodeURIComponent(id)}/`, {
        headers: { accept: "application/json" },
      });
      const reads = answer.ok
        ? Object.entries((await answer.json()).reads).filter(([, places]) => places.length)
        : [];
      const text = !answer.ok
        ? "The audience is gone."
        : reads.length
          ? reads.flatMap(([part, places]) => places.map((place) => `${part}: ${place}`))
          : ["None: permissions and queryset read no part of the request."];
      const found = make(
        "div",
        { class: "why" },
        [text].flat().map((line) => make("p", {}, make("code", {}, line))),
      );
      answers.set(id, found);
      target.replaceWith(found);
    });
    return ask;
  }
}

function shown(name, value) {
  return name.endsWith("_bytes")
    ? sizeText(value)
    : name.endsWith("_seconds")
      ? value.toFixed(2)
      : String(value);
}
