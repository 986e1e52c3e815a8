/* Time that tests move: timers, `Date.now()`, and chance. */

// The client loads these when they are first used. From the disk, that would take real time.
import "../../dist/iterators.js";
import * as live from "../../dist/live.js";
import "../../dist/observe.js";
import * as room from "../../dist/room.js";
import "../../dist/session.js";
import { kinds } from "../../dist/stream.js";
import * as watch from "../../dist/watch.js";

Object.assign(kinds, { live, room, watch });

const real = { setTimeout, clearTimeout, setImmediate, now: Date.now, random: Math.random };

/** Let everything run that waits for promises only. */
export const settle = () => new Promise((resolve) => real.setImmediate(resolve));

export class Clock {
  now = 1_000_000;
  timers = new Map();
  #lastId = 0;

  install() {
    globalThis.setTimeout = (call, delay = 0, ...args) => {
      const id = ++this.#lastId;
      this.timers.set(id, { at: this.now + Math.max(0, delay), call: () => call(...args) });
      return id;
    };
    globalThis.clearTimeout = (id) => void this.timers.delete(id);
    Date.now = () => this.now;
    Math.random = () => 0.5;
    return this;
  }

  uninstall() {
    globalThis.setTimeout = real.setTimeout;
    globalThis.clearTimeout = real.clearTimeout;
    Date.now = real.now;
    Math.random = real.random;
  }

  /** Run the timers of the next `ms`, in order; promises settle in between. */
  async advance(ms) {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const id = this.#next();
      if (id === undefined || this.timers.get(id).at > end) break;
      const { at, call } = this.timers.get(id);
      this.timers.delete(id);
      this.now = Math.max(this.now, at);
      call();
      await settle();
    }
    this.now = end;
  }

  /** The id of the timer that is due first; of several, the one that was set first. */
  #next() {
    let first;
    for (const [id, { at }] of this.timers)
      if (first === undefined || at < this.timers.get(first).at) first = id;
    return first;
  }

  /** Let time pass in which no timer runs: the page was asleep. */
  sleep(ms) {
    this.now += ms;
  }
}
