/* Websockets whose other end is the test itself. */

import { connect } from "rest-channels";
import { Clock, settle } from "./clock.js";
import { Page } from "./page.js";

export class Sockets {
  all = [];

  constructor() {
    const { all } = this;
    this.WebSocket = class FakeWebSocket {
      readyState = 0;
      sent = [];

      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        all.push(this);
      }

      send(text) {
        if (this.readyState !== 1) throw new Error("The socket is not open.");
        this.sent.push(JSON.parse(text));
      }

      close() {
        this.readyState = 3;
      }

      /** The frames of an action, without pings. */
      frames(action) {
        const payloads = this.sent.map(({ stream, payload }) => ({ stream, ...payload }));
        return payloads.filter((payload) =>
          action ? payload.action === action : payload.action !== "ping",
        );
      }

      accept() {
        this.readyState = 1;
        this.onopen?.({});
        this.receive(null, {
          action: "ping",
          response_status: 200,
          request_id: null,
          data: {},
          errors: [],
        });
      }

      receive(stream, payload) {
        this.onmessage?.({
          data: JSON.stringify({ stream, payload: { errors: [], data: null, ...payload } }),
        });
      }

      /** Answer a frame. */
      reply({ stream, action, request_id }, response_status, keys = {}) {
        this.receive(stream, { action, request_id, response_status, ...keys });
      }

      end(code) {
        this.readyState = 3;
        this.onclose?.({ code });
      }
    };
  }

  get last() {
    return this.all.at(-1);
  }
}

/** Run a test with time that it moves itself, a page, and sockets that it answers. */
export function story(play, { hasPage = true } = {}) {
  return async () => {
    const clock = new Clock().install();
    const page = hasPage ? new Page().install() : null;
    const sockets = new Sockets();
    const apis = [];
    const open = (options = {}, url = "/ws/") => {
      const api = connect(url, { WebSocket: sockets.WebSocket, ...options });
      apis.push(api);
      return api;
    };
    /** Connect, and accept the handshake. */
    const start = async (options, url) => {
      const api = open(options, url);
      await settle();
      sockets.last.accept();
      return api;
    };
    try {
      await play({ clock, page, sockets, open, start, settle });
    } finally {
      for (const api of apis) api.close();
      await clock.advance(0);
      page?.uninstall();
      clock.uninstall();
    }
  };
}
