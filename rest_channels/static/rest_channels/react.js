/*
 * React hooks.
 *
 *     const { rows, status, grow, keyOf } = useLive(api.messages, { query: { room: 1 }, window: 50 });
 */

import { useMemo, useSyncExternalStore } from "react";
import { Lazy, NOTHING } from "./lazy.js";

/** @import { Connected, ConnectionState, LiveView, LiveOptionsOf, RoomView, Rooms, Typed, WatchInput, WatchName, WatchView } from "./types.js" */

/**
 * @param {unknown} stream @param {unknown[]} input compared by value, without functions
 * @param {() => unknown} open @param {string[]} [methods]
 */
function useHandle(stream, input, open, methods) {
  const lazy = useMemo(() => new Lazy(input.at(-1), open, methods), [stream, JSON.stringify(input)]);
  const snapshot = useSyncExternalStore(lazy.subscribe, lazy.getSnapshot, () => NOTHING);
  const view = useMemo(() => ({ ...snapshot, ...lazy.methods }), [snapshot, lazy]);
  return { lazy, snapshot, view };
}

/**
 * Show a live list. With `suspense` the component suspends until the rows are there.
 *
 * @template T @param {Typed<T>} stream
 * @param {NoInfer<LiveOptionsOf<T> & { suspense?: boolean }> | null} [options] null subscribes to nothing
 * @returns {LiveView<T>}
 */
export function useLive(stream, options = {}) {
  const { suspense, ...live } = options ?? {};
  const open = () => /** @type {any} */ (stream).live(live);
  const { lazy, snapshot, view } = useHandle(stream, [options], open, ["grow", "keyOf", "isPending"]);
  if (suspense && snapshot !== NOTHING && snapshot.status === "connecting") throw lazy.settled();
  return /** @type {any} */ (view);
}

/**
 * Show the answer of an action, kept up to date.
 *
 * @template T @template {WatchName<T>} N @param {Typed<T>} stream @param {N} of
 * @param {NoInfer<WatchInput<T, N>> | null} [input] null watches nothing
 * @returns {WatchView<T, N>}
 */
export function useWatch(stream, of, input = /** @type {any} */ ({})) {
  const open = () => /** @type {any} */ (stream).watch(of, input);
  return /** @type {any} */ (useHandle(stream, [of, input], open).view);
}

/** Join a room while the component is shown. @template U, M @template [E={ data: M }] @param {Rooms<U, M, E>} stream @param {string | number | null} room @returns {RoomView<U, M, E>} */
export function useRoom(stream, room) {
  return /** @type {any} */ (useHandle(stream, [room], () => stream.join(/** @type {any} */ (room)), ["say", "setTyping"]).view);
}

/** Show the state of the connection. @param {Connected} api @returns {ConnectionState} */
export function useConnection(api) {
  return useSyncExternalStore(api.subscribe, api.getSnapshot, api.getSnapshot);
}
