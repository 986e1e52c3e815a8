/*
 * Svelte stores.
 *
 *     const messages = liveStore(api.messages, { query: { room: 1 }, window: 50 });
 *     {#each $messages.rows as row (messages.keyOf(row))} ... {/each}
 */

import { Lazy } from "./lazy.js";

/** @import { Connected, ConnectionState, LiveOptionsOf, LiveView, RoomView, Rooms, Typed, WatchInput, WatchName, WatchView } from "./types.js" */

/** @template V @typedef {{ subscribe(run: (value: V) => void): () => void }} Readable */

/** Return a store that is open while it has subscribers. @param {unknown} input null opens nothing @param {() => unknown} open @param {string[]} [methods] @returns {any} */
function store(input, open, methods) {
  const lazy = new Lazy(input, open, methods);
  const subscribe = (/** @type {(value: unknown) => void} */ run) => {
    const unsubscribe = lazy.subscribe(() => run(lazy.getSnapshot()));
    run(lazy.getSnapshot());
    return unsubscribe;
  };
  return { subscribe, ...lazy.methods };
}

/**
 * A store of a live list, with `grow`, `keyOf` and `isPending`.
 *
 * @template T @param {Typed<T>} stream @param {NoInfer<LiveOptionsOf<T>> | null} [options] null subscribes to nothing
 * @returns {Readable<Omit<LiveView<T>, "grow" | "keyOf" | "isPending">> & Pick<LiveView<T>, "grow" | "keyOf" | "isPending">}
 */
export const liveStore = (stream, options) =>
  store(options, () => /** @type {any} */ (stream).live(options), ["grow", "keyOf", "isPending"]);

/**
 * A store of the answer of an action.
 *
 * @template T @template {WatchName<T>} N @param {Typed<T>} stream @param {N} of @param {NoInfer<WatchInput<T, N>> | null} [input]
 * @returns {Readable<WatchView<T, N>>}
 */
export const watchStore = (stream, of, input) => store(input, () => /** @type {any} */ (stream).watch(of, input));

/**
 * A store of a room, with `say` and `setTyping`. @template U, M @template [E={ data: M }] @param {Rooms<U, M, E>} stream @param {string | number | null} room
 * @returns {Readable<Omit<RoomView<U, M, E>, "say" | "setTyping">> & Pick<RoomView<U, M, E>, "say" | "setTyping">}
 */
export const roomStore = (stream, room) =>
  store(room, () => stream.join(/** @type {any} */ (room)), ["say", "setTyping"]);

/** A store of the state of the connection. @param {Connected} api @returns {Readable<ConnectionState>} */
export const connectionStore = (api) => ({
  subscribe(run) {
    const unsubscribe = api.subscribe(() => run(api.state));
    run(api.state);
    return unsubscribe;
  },
});
