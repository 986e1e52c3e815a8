/* Tests against the scripted server. */

import { connect } from "rest-channels";
import { Clock } from "./clock.js";
import { Page } from "./page.js";
import { Server } from "./server.js";

/** Run a test with a server that has `tables`, and time that it moves itself. */
export function talk(tables, play) {
  return async () => {
    const clock = new Clock().install();
    const page = new Page().install();
    const server = new Server(structuredClone(tables));
    const apis = [];
    const open = (options = {}) => {
      const api = connect("/ws/", { WebSocket: server.WebSocket, ...options });
      apis.push(api);
      return api;
    };
    try {
      await play({ server, clock, page, open });
    } finally {
      for (const api of apis) api.close();
      await clock.advance(0);
      page.uninstall();
      clock.uninstall();
    }
  };
}
