/* The answer of any action that reads, kept up to date. Loaded with the first watch. */

/** @import { Shown } from "./subscription.js" */
/** @import { Input } from "./types.js" */

/** Let a subscription follow an answer. @param {Shown<{ data: any }>} core @param {string} of @param {Input} input */
export function become(core, of, { lookups, pk, query, headers }) {
  core.become({
    frame: () => ({
      ...lookups,
      ...{ action: "watch", of, pk, query, headers, since: core.position ?? undefined },
    }),
    farewell: () => ({ action: "unwatch", request_id: core.id }),

    begin({ data, resumed }) {
      if (!resumed) core.shown = { data };
      return true;
    },

    follow({ action, data }) {
      if (action === "change") core.shown = { data };
    },

    clear() {
      core.shown = { data: undefined };
    },
  });
}
