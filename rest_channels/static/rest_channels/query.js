/*
 * Live results in the cache of TanStack Query.
 *
 *     const { data: messages } = useQuery(liveOptions(api.messages, { query: { room: 1 }, window: 50 }));
 */

/** @import { LiveOptionsOf, RowOfKnown, Typed, WatchAnswer, WatchInput, WatchName } from "./types.js" */

/** @template D @typedef {{ queryKey: readonly unknown[], queryFn: (context: any) => Promise<D>, staleTime: (query: any) => number, networkMode: "always", refetchOnMount: true, retry: false, structuralSharing: false }} LiveQuery */

const ends = /** @type {WeakMap<object, () => void>} */ (new WeakMap()); // functions that end what queries show
const names = /** @type {WeakMap<object, string>} */ (new WeakMap()); // what queries call streams
const counts = /** @type {Map<string, number>} */ (new Map());

/** Name a stream in keys of queries. On a second connection it has another name: another user may be signed in there. @param {any} stream */
function nameOf(stream) {
  const name = stream[Symbol.toStringTag];
  if (!names.has(stream)) {
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    names.set(stream, count > 1 ? `${name} ${count}` : name);
  }
  return names.get(stream);
}

/** @param {unknown} stream @param {unknown[]} what @param {() => any} open @param {"rows" | "data"} field @returns {LiveQuery<any>} */
function queryOf(stream, what, open, field) {
  const queryFn = (/** @type {any} */ { client, queryKey, signal }) => new Promise((resolve, reject) => {
    const [cache, handle] = [client.getQueryCache(), open()];
    const query = cache.find({ queryKey });
    ends.get(query)?.();
    const show = () => {
      const { status, error, [field]: data } = handle.getSnapshot();
      if (status === "connecting") return;
      const refusal = status !== "live" && status !== "stale" && (error ?? new Error(`${queryKey[0]} is ${status}.`));
      if (query.state.fetchStatus === "fetching") refusal ? reject(refusal) : resolve(data);
      else if (refusal) query.setState({ data: undefined, status: "error", error: refusal });
      else if (query.state.data !== data) client.setQueryData(queryKey, data);
    };
    const note = (/** @type {any} */ { type, query: about, action }) => {
      if (about === query && type === "updated" && action.type === "success" && !action.manual) show(); // there may be news
      if (about === query && (type === "removed" || (type === "observerRemoved" && !query.getObserversCount()))) end();
    };
    const stops = [handle.subscribe(show), cache.subscribe(note), () => handle.stop()];
    const end = () => ends.delete(query) && stops.forEach((stop) => stop());
    ends.set(query, end);
    signal.addEventListener("abort", end);
    show();
  });
  return { queryKey: [nameOf(stream), ...what], queryFn, staleTime: (query) => (ends.has(query) ? Infinity : 0), networkMode: "always", refetchOnMount: true, retry: false, structuralSharing: false };
}

/** Options of a query whose data are the rows of a live list. @template T @param {Typed<T>} stream @param {NoInfer<LiveOptionsOf<T>>} [options] @returns {LiveQuery<readonly RowOfKnown<T>[]>} */
export const liveOptions = (stream, options = {}) =>
  queryOf(stream, ["live", options], () => /** @type {any} */ (stream).live(options), "rows");

/** Options of a query whose data are the answer of an action. @template T @template {WatchName<T>} N @param {Typed<T>} stream @param {N} of @param {NoInfer<WatchInput<T, N>>} [input] @returns {LiveQuery<WatchAnswer<T, N>>} */
export const watchOptions = (stream, of, input = /** @type {any} */ ({})) =>
  queryOf(stream, ["watch", of, input], () => /** @type {any} */ (stream).watch(of, input), "data");
