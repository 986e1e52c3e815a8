/*
 * Vue composables.
 *
 *     const { rows, status, grow, keyOf } = useLive(api.messages, () => ({ query: { room: props.room }, window: 50 }));
 */

import { computed, onScopeDispose, shallowRef, toValue, watch } from "vue";
import { NOTHING, callsOf } from "./lazy.js";

/** @import { ComputedRef, MaybeRefOrGetter } from "vue" */
/** @import { Connected, ConnectionState, LiveOptionsOf, LiveView, RoomView, Rooms, Typed, WatchInput, WatchName, WatchView } from "./types.js" */

/** Refs of what changes, and functions as they are. @template V @typedef {{ [N in keyof V]: V[N] extends Function ? V[N] : ComputedRef<V[N]> }} Refs */

/**
 * @param {() => unknown} read @param {(input: any) => unknown} open @param {string[]} names @param {string[]} [methods]
 * @returns {any}
 */
function useHandle(read, open, names, methods = []) {
  const snapshot = shallowRef(/** @type {any} */ (NOTHING));
  /** @type {any} */
  let handle;
  const follow = () => {
    const [former, input] = [handle, read()];
    const next = /** @type {any} */ (handle = input === null ? null : open(input));
    const show = () => void (snapshot.value = next ? next.getSnapshot() : NOTHING);
    next?.subscribe(() => handle === next && show());
    show();
    former?.stop();
  };
  // Nothing is opened where a server draws the page.
  if ("document" in globalThis) watch(() => JSON.stringify(read()), follow, { immediate: true });
  onScopeDispose(() => handle?.stop());
  const refs = names.map((name) => [name, computed(() => snapshot.value[name])]);
  return { ...Object.fromEntries(refs), ...callsOf(() => handle, methods) };
}

/** Show a live list; of `null`, nothing. @template T @param {Typed<T>} stream @param {MaybeRefOrGetter<NoInfer<LiveOptionsOf<T>> | null>} [options] @returns {Refs<LiveView<T>>} */
export const useLive = (stream, options = {}) =>
  useHandle(() => toValue(options), (input) => /** @type {any} */ (stream).live(input), ["rows", "status", "error", "hasMore"], ["grow", "keyOf", "isPending"]);

/** Show the answer of an action. @template T @template {WatchName<T>} N @param {Typed<T>} stream @param {N} of @param {MaybeRefOrGetter<NoInfer<WatchInput<T, N>> | null>} [input] @returns {Refs<WatchView<T, N>>} */
export const useWatch = (stream, of, input = /** @type {any} */ ({})) =>
  useHandle(() => toValue(input), (now) => /** @type {any} */ (stream).watch(of, now), ["data", "status", "error"]);

/** Join a room. @template U, M @template [E={ data: M }] @param {Rooms<U, M, E>} stream @param {MaybeRefOrGetter<string | number | null>} room @returns {Refs<RoomView<U, M, E>>} */
export const useRoom = (stream, room) =>
  useHandle(() => toValue(room), (now) => stream.join(now), ["users", "typing", "messages", "status", "error"], ["say", "setTyping"]);

/** Show the state of the connection. @param {Connected} api @returns {ComputedRef<ConnectionState>} */
export function useConnection(api) {
  const state = shallowRef(api.state);
  onScopeDispose(api.subscribe(() => void (state.value = api.state)));
  return computed(() => state.value);
}
