/*
 * A `WebSocket` for `connect` that records every frame, and that can be cut and held.
 *
 * Held are events of subscriptions alone. The client does not see them, so it acknowledges none: the
 * server's credit runs out, and later events are merged there. Replies and pings pass, because without
 * them the client would give the line up.
 */

const CUT = 1006; // as a line that breaks

/** @param {{ opened(): void, closed(code: number): void, sent(text: string): void, received(text: string): void }} record */
export function createTap(record, { stream } = {}) {
  /** The socket that is open. */
  let current = null;
  let isPaused = false;
  let isCut = false;
  let held = [];

  class TappedSocket {
    constructor(url, protocols) {
      current = this;
      held = [];
      if (isCut) setTimeout(() => this.end(CUT));
      else this.open(url, protocols);
    }

    open(url, protocols) {
      const socket = (this.socket = new WebSocket(url, protocols));
      socket.onopen = () => {
        record.opened();
        this.onopen?.();
      };
      socket.onmessage = ({ data }) => this.receive(data);
      socket.onerror = () => this.onerror?.();
      socket.onclose = ({ code }) => this.end(code);
    }

    send(text) {
      const own = stream === undefined ? text : unwrapped(text);
      record.sent(own);
      this.socket.send(own);
    }

    close(code) {
      this.socket?.close(code);
      if (current === this) this.end(code ?? 1000);
    }

    receive(text) {
      const whole = stream === undefined ? text : wrapped(text, stream);
      record.received(text);
      const name = isPaused ? eventName(whole) : null;
      if (name !== null) held.push({ name, text: whole });
      else this.onmessage?.({ data: whole });
    }

    end(code) {
      if (current !== this) return;
      current = null;
      if (this.socket) {
        this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
        record.closed(code);
      }
      this.onclose?.({ code });
    }
  }

  return {
    WebSocket: TappedSocket,

    get isPaused() {
      return isPaused;
    },

    /** How many events of the subscription that has most of them the client has not seen. */
    get held() {
      const counts = {};
      for (const { name } of held) counts[name] = (counts[name] ?? 0) + 1;
      return Math.max(0, ...Object.values(counts));
    },

    /** Break the line, as a network would; it stays broken until `mend`. */
    cut() {
      isCut = true;
      const socket = current?.socket;
      current?.end(CUT);
      socket?.close();
    },

    mend() {
      isCut = false;
    },

    pause() {
      isPaused = true;
    },

    resume() {
      isPaused = false;
      const waiting = held;
      held = [];
      for (const { text } of waiting) current?.onmessage?.({ data: text });
    },
  };
}

/** Return the name of the subscription that an event is for; null for other messages. */
function eventName(text) {
  const { stream, payload } = JSON.parse(text);
  return payload?.previous === undefined ? null : JSON.stringify([stream, payload.request_id]);
}

/* A socket of one viewset has frames without the name of a stream. */

const unwrapped = (text) => JSON.stringify(JSON.parse(text).payload);
const wrapped = (text, stream) => JSON.stringify({ stream, payload: JSON.parse(text) });
