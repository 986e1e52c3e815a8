/* The page's one connection: a client over a tap, opened again with other credentials or another socket. */

import { connect } from "../client.js";
import { createTap } from "./tap.js";

/**
 * @param {ReturnType<import("./record.js").createRecord>} record
 * @param {{ changed(): void, replaced(api: any): void }} owner
 */
export function createSession(record, owner) {
  let api = null;
  let tap = null;
  let socket = null;
  let url = "";
  // In memory alone: a reload forgets it.
  let authorization = null;
  /** The keys of rows by stream: `connect` reads it when a row comes. */
  let keys = {};
  let lastId = 0;

  function open() {
    api?.close();
    const single = socket.isRoot ? undefined : socket.streams[0].name;
    tap = createTap(
      {
        opened: () => record.opened(),
        closed: (code) => record.closed(code),
        sent: (text) => record.sent(text, single),
        received: (text) => record.received(text, single),
      },
      { stream: single },
    );
    api = connect(url, {
      keys,
      WebSocket: tap.WebSocket,
      // Frames are shown as they are sent: no keys or fences of the client's own.
      ...(authorization === null ? {} : { auth: () => authorization }),
    });
    api.subscribe(owner.changed);
    owner.replaced(api);
    owner.changed();
  }

  return {
    get api() {
      return api;
    },
    get tap() {
      return tap;
    },
    get hasToken() {
      return authorization !== null;
    },
    get socket() {
      return socket;
    },

    choose(chosen, address) {
      socket = chosen;
      url = address;
      keys = Object.fromEntries(
        chosen.streams.filter(({ key }) => key).map(({ name, key }) => [name, key]),
      );
      open();
    },

    /** Use the value of an `Authorization` header instead of the session; null ends that. */
    authorize(value) {
      authorization = value;
      open();
    },

    /**
     * Send one frame; the promise resolves to its reply, also if that is an error.
     *
     * @returns {Promise<{ reply: any, items: any[], ms?: number }>}
     */
    async send(stream, frame, signal) {
      const id = frame.request_id ?? `console-${++lastId}`;
      const found = { items: [] };
      const stop = record.subscribe((entry) => {
        const { kind, payload } = entry ?? {};
        const isMine =
          kind === "in" && payload?.request_id === id && payload.previous === undefined;
        if (!isMine || entry.stream !== stream) return;
        if (payload.response_status === 206) found.items.push(payload.data);
        else Object.assign(found, { reply: payload, ms: entry.ms });
      });
      try {
        const { action, headers, ...rest } = frame;
        await api.stream(stream).action(action, { ...rest, request_id: id }, { headers, signal });
      } catch (error) {
        // An error that is not the reply's: the line was lost, or the user has cancelled.
        if (!found.reply || signal.aborted) throw error;
      } finally {
        stop();
      }
      return found;
    },
  };
}
