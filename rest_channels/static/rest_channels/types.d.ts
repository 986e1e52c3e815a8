/* What `connect<Streams>` takes and returns. */

export type Key = string | number;
export type Row = Record<string, any>;
export type Scalar = string | number | boolean | null | undefined;
export type Query = Record<string, Scalar | readonly Scalar[]>;

/** A reply or an event, as docs/protocol.md describes them. */
export interface Reply {
  action: string | null;
  response_status: number;
  request_id: string | number | null;
  errors: unknown[];
  data: any;
  codes?: unknown[];
  headers?: Record<string, string>;
  position?: string;
  previous?: string;
  resumed?: boolean;
  after?: Key | null;
  fenced?: boolean;
  replayed?: boolean;
}

/** The connection: `retryAt` is the time of the next attempt as `Date.now()` counts, while it waits. */
export interface ConnectionState {
  readonly name: "connecting" | "connected" | "waiting" | "signed-out" | "closed";
  readonly retryAt: number | null;
  readonly code: number | null;
}

/** `stale`: rows are shown, and may be old. `denied`: this user may not see them. */
export type Status = "connecting" | "live" | "stale" | "denied" | "ended";

export interface Limits {
  /** Frames without a reply; below the server's MAX_IN_FLIGHT. */
  inFlight: number;
  /** Frames a second; below the server's FRAME_RATE. */
  rate: number;
  /** Frames at once; below the server's FRAME_BURST. */
  burst: number;
  /** Frames that wait to be sent. */
  pending: number;
  /** How long the server may take for an answer; after that the connection counts as broken. */
  answerSeconds: number;
  /** After this silence the client sends a ping. */
  silenceSeconds: number;
  /** How long the server may take to answer a ping; after that the line is dead. */
  pongSeconds: number;
  /** How long a request waits for a connection. */
  retrySeconds: number;
  /** How often a request is sent before it fails. */
  retryTimes: number;
}

export interface Options {
  /**
   * Return the value of an `Authorization` header, or null if nobody is signed in. It is called for
   * each connection, with true if the server has refused or ended the credentials.
   */
  auth?: (isExpired: boolean) => string | null | Promise<string | null>;
  /** Added to the query string of the handshake, which applies to every frame. */
  query?: Record<string, string | number | boolean>;
  /** Headers of every frame, such as `authorization` and `accept-language`; see the protocol. */
  headers?: Record<string, string>;
  /** The field with the key of a stream's rows, where it is not `id`. */
  keys?: Record<string, string>;
  /** false: writes are shown once the server has done them. */
  optimistic?: boolean;
  /** false: replies to writes do not wait for live lists. */
  fence?: boolean;
  /** false: writes have no idempotency key, and are not repeated. */
  idempotency?: boolean;
  limits?: Partial<Limits>;
  /** Keep rows over a reload of the page, for this `user`. */
  persist?: "session";
  user?: string | number;
  WebSocket?: new (url: string, protocols: string[]) => WebSocket;
}

/** Values of the URL other than the row's key: `{ room_pk: 1 }`. */
export type Lookups = Record<string, Key>;

export interface CallOptions<L = Lookups> {
  /** Aborting it cancels the request on the server, too. */
  signal?: AbortSignal;
  headers?: Record<string, string>;
  lookups?: L;
}

export interface WriteOptions<L = Lookups, R = Row> extends CallOptions<L> {
  /** false: lists show it once it is done. Fields: lists show these at once, beside those of the data. */
  optimistic?: boolean | Partial<R>;
}

export interface Input<Q = Query, K = Key, L = Lookups> {
  pk?: K;
  query?: Q;
  headers?: Record<string, string>;
  lookups?: L;
}

export interface LiveOptions<R, Q = Query, K = Key, L = Lookups> extends Input<Q, K, L> {
  /** Only the first rows, this many. */
  window?: number;
  /** Return whether an optimistic row belongs to the list, where `query` cannot say it. */
  matches?: (row: R) => boolean;
  /** The order of the list, for the place of optimistic rows. */
  compare?: (a: R, b: R) => number;
  /** How many events the page may be behind; 0 sets no bound. */
  credit?: number;
}

/** An optimistic write that is no longer shown. */
export interface RolledBack {
  readonly stream: string;
  readonly action: "create" | "update" | "patch" | "destroy";
  readonly key: Key;
  readonly data: any;
}

export interface PendingWrite {
  readonly stream: string;
  readonly action: string;
  readonly pk: unknown;
  readonly data: unknown;
  readonly wasSent: boolean;
}

export type Change<R, K = Key> =
  | { readonly type: "reset"; readonly rows: readonly R[] }
  | {
      readonly type: "create" | "update";
      readonly key: K;
      readonly row: R;
      readonly after?: K | null;
    }
  | { readonly type: "delete"; readonly key: K };

interface Live<Snapshot> {
  readonly status: Status;
  readonly error: import("./errors.js").ApiError | null;
  /** Call `callback` after changes, until the returned function is called. */
  subscribe(callback: () => void): () => void;
  /** The same object until something changes. */
  getSnapshot(): Snapshot;
  stop(): void;
}

export interface LiveSnapshot<R> {
  readonly rows: readonly R[];
  readonly status: Status;
  readonly error: import("./errors.js").ApiError | null;
  /** Whether the window is full, so there may be more rows. */
  readonly hasMore: boolean;
}

export interface LiveRows<R, K = Key> extends Live<LiveSnapshot<R>>, AsyncIterable<Change<R, K>> {
  readonly rows: readonly R[];
  readonly byKey: ReadonlyMap<K, R>;
  readonly window: number;
  grow(n: number): void;
  /** A key for a user interface: it stays the same when a new row gets its real key. */
  keyOf(row: R): K | string;
  /** Whether a row shows what the server has not confirmed. */
  isPending(row: R): boolean;
}

export interface WatchSnapshot<D> {
  readonly data: D | undefined;
  readonly status: Status;
  readonly error: import("./errors.js").ApiError | null;
}

export interface Watched<D> extends Live<WatchSnapshot<D>> {
  readonly data: D | undefined;
}

export interface RoomSnapshot<U, M, E = { data: M }> {
  readonly users: readonly U[];
  readonly typing: readonly U[];
  readonly messages: readonly RoomMessage<U, M, E>[];
  readonly status: Status;
  readonly error: import("./errors.js").ApiError | null;
}

/** A message: `E` is what `get_message_data` returns, which is the data unless it says otherwise. */
export type RoomMessage<U, M, E = { data: M }> = {
  readonly room: string;
  readonly user: U;
  readonly id?: string;
  readonly sent_at?: string;
} & Readonly<E>;

export interface JoinedRoom<U, M, E = { data: M }> extends Live<RoomSnapshot<U, M, E>> {
  readonly users: readonly U[];
  readonly typing: readonly U[];
  readonly messages: readonly RoomMessage<U, M, E>[];
  say(data: M, options?: { signal?: AbortSignal }): Promise<unknown>;
  setTyping(isTyping?: boolean): void;
  leave(): void;
}

/** What is known of an action: what it takes, and what it answers. */
export interface ActionType {
  pk?: Key;
  data?: any;
  query?: any;
  /** Its verbs, if it has several; without `method` a call has the first. */
  method?: string;
  output?: any;
  /** What each item of a generator action is. */
  item?: any;
  /** false: it cannot be watched, because GET does not reach it. */
  watch?: boolean;
}

/** What is known of a viewset. Leave out what it does not have. */
export interface ViewSetType {
  row: any;
  /** The key's type; by default that of `row.id`. */
  key?: Key;
  /** What `create` takes; if this is missing, `create()` does not compile. */
  create?: any;
  /** What `create` answers, if it is not the `row`. */
  created?: any;
  /** What `update` takes, and, each field optional, `patch`. */
  update?: any;
  /** What `update` and `patch` answer, if it is not the `row`. */
  updated?: any;
  /** What `patch` takes, each field optional, if it is not that of `update`; `never`: nothing. */
  patch?: any;
  destroy?: boolean;
  /** What lists have, and live lists, if it is not the `row` of `retrieve`. */
  item?: any;
  /** What `list` answers, if it is not an array of rows: a page; `never`: there is no `list`. */
  list?: any;
  /** `never`: there is no `retrieve`. */
  retrieve?: any;
  /** What `list` takes as `query`, and so do live lists and watches of it. */
  filters?: any;
  /** The values of the URL other than the row's key. */
  lookups?: any;
  actions?: Record<string, ActionType>;
}

/** What is known of a class of `RoomConsumers`. */
export interface RoomType {
  /** `message` is what `say` takes, `event` what a message has then, by default `{ data: message }`. */
  room: { user: any; message: any; event?: any };
}

export type StreamTypes = { [stream: string]: ViewSetType | RoomType };

export interface AnyStreams {
  [stream: string]: any;
}

type KeyOf<T> = T extends { key: infer K extends Key }
  ? K
  : T extends { row: { id: infer K extends Key } }
    ? K
    : Key;
type FiltersOf<T> = T extends { filters: infer Q } ? Partial<Q> : Query;
type LookupsOf<T> = T extends { lookups: infer L } ? Partial<L> : Lookups;
type RowOf<T> = T extends { row: infer R } ? R : never;
type ItemOf<T> = T extends { item: infer I } ? I : RowOf<T>;
type CreatedOf<T> = T extends { created: infer R } ? R : RowOf<T>;
type UpdatedOf<T> = T extends { updated: infer R } ? R : RowOf<T>;
type ListOf<T> = T extends { list: infer L } ? L : ItemOf<T>[];
type ActionsOf<T> = T extends { actions: infer A } ? A : {};
type OutputOf<A> = A extends { output: infer O } ? O : null;
/** The names of the actions that GET reaches. */
type WatchableOf<A> = { [N in keyof A]: A[N] extends { watch: false } ? never : N }[keyof A];
type ReadNames<T> =
  | (T extends { list: never } ? never : "list")
  | (T extends { retrieve: never } ? never : "retrieve");
type InputOf<A, T> = Pick<A, Extract<keyof A, "pk" | "data" | "query" | "method">> & {
  lookups?: LookupsOf<T>;
};
type WatchInputOf<A, T> = Omit<InputOf<A, T>, "data" | "method">;
type ArgumentsOf<A, T> =
  {} extends InputOf<A, T>
    ? [input?: InputOf<A, T>, options?: CallOptions<LookupsOf<T>>]
    : [input: InputOf<A, T>, options?: CallOptions<LookupsOf<T>>];
type ResultOf<A> = Promise<OutputOf<A>> & (A extends { item: infer I } ? AsyncIterable<I> : {});

declare const type: unique symbol;

/** A stream of which `T` is known. */
export interface Typed<T> {
  readonly [type]?: T;
}

interface Reads<T> extends Typed<T> {
  metadata(pk?: KeyOf<T>, options?: CallOptions<LookupsOf<T>>): Promise<any>;
  live(
    options?: LiveOptions<ItemOf<T>, FiltersOf<T>, KeyOf<T>, LookupsOf<T>>,
  ): LiveRows<ItemOf<T>, KeyOf<T>>;
  watch(
    of: Extract<ReadNames<T>, "list">,
    input?: Input<FiltersOf<T>, KeyOf<T>, LookupsOf<T>>,
  ): Watched<ListOf<T>>;
  watch(
    of: Extract<ReadNames<T>, "retrieve">,
    input: Input<Query, KeyOf<T>, LookupsOf<T>> & { pk: KeyOf<T> },
  ): Watched<RowOf<T>>;
  watch<N extends WatchableOf<ActionsOf<T>>>(
    of: N,
    ...input: {} extends WatchInputOf<ActionsOf<T>[N], T>
      ? [input?: WatchInputOf<ActionsOf<T>[N], T>]
      : [input: WatchInputOf<ActionsOf<T>[N], T>]
  ): Watched<OutputOf<ActionsOf<T>[N]>>;
  /** Call an action whose name is one of the methods here. */
  action(
    name: string,
    input?: Input & { data?: unknown; method?: string },
    options?: CallOptions<LookupsOf<T>>,
  ): Promise<any>;
}

type Lists<T> = "list" extends ReadNames<T>
  ? { list(query?: FiltersOf<T>, options?: CallOptions<LookupsOf<T>>): Promise<ListOf<T>> }
  : {};
type Retrieves<T> = "retrieve" extends ReadNames<T>
  ? { retrieve(pk: KeyOf<T>, options?: CallOptions<LookupsOf<T>>): Promise<RowOf<T>> }
  : {};
type Creates<T> = T extends { create: infer C }
  ? { create(data: C, options?: WriteOptions<LookupsOf<T>, ItemOf<T>>): Promise<CreatedOf<T>> }
  : {};
type Updates<T> = T extends { update: infer U }
  ? {
      update(
        pk: KeyOf<T>,
        data: U,
        options?: WriteOptions<LookupsOf<T>, ItemOf<T>>,
      ): Promise<UpdatedOf<T>>;
    }
  : {};
type PatchOf<T> = T extends { patch: infer P } ? P : T extends { update: infer U } ? U : never;
type Patches<T> = [PatchOf<T>] extends [never]
  ? {}
  : {
      patch(
        pk: KeyOf<T>,
        data: Partial<PatchOf<T>>,
        options?: WriteOptions<LookupsOf<T>, ItemOf<T>>,
      ): Promise<UpdatedOf<T>>;
    };
type Destroys<T> = T extends { destroy: true }
  ? { destroy(pk: KeyOf<T>, options?: WriteOptions<LookupsOf<T>>): Promise<null> }
  : {};
/** The methods that each stream has, whatever is known of it. */
type Methods = keyof Reads<any> | "list" | "retrieve" | "create" | "update" | "patch" | "destroy";
type Acts<T> = {
  [N in Exclude<keyof ActionsOf<T>, Methods>]: (
    ...input: ArgumentsOf<ActionsOf<T>[N], T>
  ) => ResultOf<ActionsOf<T>[N]>;
};

export type ViewSet<T> = Reads<T> &
  Lists<T> &
  Retrieves<T> &
  Creates<T> &
  Updates<T> &
  Patches<T> &
  Destroys<T> &
  Acts<T>;

interface AnyViewSet {
  row: any;
  key: any;
  list: any;
  filters: Query;
  actions: Record<string, { pk?: any; query?: any; output: any }>;
}
/** `T`, or everything if nothing is known of it. */
type Known<T> = unknown extends T ? AnyViewSet : T;
type Any<T> = unknown extends T ? any : T;

export type RowOfKnown<T> = ItemOf<Known<T>>;
export type KeyOfKnown<T> = KeyOf<Known<T>>;
export type LiveOptionsOf<T> = LiveOptions<
  ItemOf<Known<T>>,
  FiltersOf<Known<T>>,
  KeyOf<Known<T>>,
  LookupsOf<Known<T>>
>;
export type WatchName<T> = WatchableOf<ActionsOf<Known<T>>> | ReadNames<Known<T>>;
export type WatchInput<T, N> = N extends keyof ActionsOf<T>
  ? WatchInputOf<ActionsOf<T>[N], T>
  : Input<FiltersOf<Known<T>>, KeyOf<Known<T>>, LookupsOf<Known<T>>>;
export type WatchAnswer<T, N> = N extends keyof ActionsOf<T>
  ? OutputOf<ActionsOf<T>[N]>
  : N extends "list" ? ListOf<Known<T>> : RowOf<Known<T>>;

/** What bindings to frameworks show of a list, a watch and a room. */
export type LiveView<T, R = ItemOf<Known<T>>> = LiveSnapshot<R> & Pick<LiveRows<R, KeyOf<Known<T>>>, "grow" | "keyOf" | "isPending">;
export type WatchView<T, N> = WatchSnapshot<WatchAnswer<T, N>>;
export type RoomView<U, M, E = { data: M }> = RoomSnapshot<Any<U>, Any<M>, Any<E>> & Pick<JoinedRoom<U, M>, "say" | "setTyping">;

export interface Rooms<U, M, E = { data: M }> {
  join(room: string | number): JoinedRoom<U, M, E>;
}

export type StreamOf<T> = 0 extends 1 & T
  ? any
  : T extends { room: { user: infer U; message: infer M } }
    ? Rooms<U, M, T extends { room: { event: infer E } } ? E : { data: M }>
    : ViewSet<T>;

export interface Connected {
  readonly state: ConnectionState;
  readonly pending: readonly PendingWrite[];
  /** Call `callback` when `state` or `pending` changes, until the returned function is called. */
  subscribe(callback: () => void): () => void;
  getSnapshot(): ConnectionState;
  /** Connect now, for example after signing in. */
  reconnect(): void;
  close(): void;
}

export type Api<S> = Connected & {
  /** Return a stream, also one with the name of a property of this. */
  stream<N extends keyof S>(name: N): StreamOf<S[N]>;
} & { readonly [N in Exclude<keyof S, keyof Connected | "stream">]: StreamOf<S[N]> };
