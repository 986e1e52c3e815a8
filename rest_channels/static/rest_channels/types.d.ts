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
  /** `authorization`, `accept` and `accept-language` of every frame. */
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

export interface CallOptions {
  /** Aborting it cancels the request on the server, too. */
  signal?: AbortSignal;
  headers?: Record<string, string>;
  /** Values of the URL other than the row's key: `{ room_pk: 1 }`. */
  lookups?: Record<string, Key>;
}

export interface WriteOptions extends CallOptions {
  optimistic?: boolean;
}

export interface Input<Q = Query, K = Key> {
  pk?: K;
  query?: Q;
  headers?: Record<string, string>;
  lookups?: Record<string, Key>;
}

export interface LiveOptions<R, Q = Query, K = Key> extends Input<Q, K> {
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

export interface RoomSnapshot<U, M> {
  readonly users: readonly U[];
  readonly typing: readonly U[];
  readonly messages: readonly RoomMessage<U, M>[];
  readonly status: Status;
  readonly error: import("./errors.js").ApiError | null;
}

export interface RoomMessage<U, M> {
  readonly room: string;
  readonly user: U;
  readonly data: M;
  readonly id?: string;
  readonly sent_at?: string;
}

export interface JoinedRoom<U, M> extends Live<RoomSnapshot<U, M>> {
  readonly users: readonly U[];
  readonly typing: readonly U[];
  readonly messages: readonly RoomMessage<U, M>[];
  say(data: M, options?: { signal?: AbortSignal }): Promise<unknown>;
  setTyping(isTyping?: boolean): void;
  leave(): void;
}

/** What is known of an action: what it takes, and what it answers. */
export interface ActionType {
  pk?: Key;
  data?: any;
  query?: any;
  output?: any;
  /** What each item of a generator action is. */
  item?: any;
}

/** What is known of a viewset. Leave out what it does not have. */
export interface ViewSetType {
  row: any;
  /** The key's type; by default that of `row.id`. */
  key?: Key;
  /** What `create` takes; if this is missing, `create()` does not compile. */
  create?: any;
  /** What `update` takes, and, each field optional, `patch`. */
  update?: any;
  destroy?: boolean;
  /** What `list` answers, if it is not an array of rows: a page. */
  list?: any;
  filters?: any;
  actions?: Record<string, ActionType>;
}

/** What is known of a class of `RoomConsumers`. */
export interface RoomType {
  room: { user: any; message: any };
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
type ListOf<T> = T extends { list: infer L } ? L : T extends { row: infer R } ? R[] : never;
type RowOf<T> = T extends { row: infer R } ? R : never;
type ActionsOf<T> = T extends { actions: infer A } ? A : {};
type OutputOf<A> = A extends { output: infer O } ? O : null;
type InputOf<A> = Pick<A, Extract<keyof A, "pk" | "data" | "query">> & {
  lookups?: Record<string, Key>;
};
type ArgumentsOf<A> =
  {} extends InputOf<A>
    ? [input?: InputOf<A>, options?: CallOptions]
    : [input: InputOf<A>, options?: CallOptions];
type ResultOf<A> = Promise<OutputOf<A>> & (A extends { item: infer I } ? AsyncIterable<I> : {});

declare const type: unique symbol;

/** A stream of which `T` is known. */
export interface Typed<T> {
  readonly [type]?: T;
}

interface Reads<T> extends Typed<T> {
  list(query?: FiltersOf<T>, options?: CallOptions): Promise<ListOf<T>>;
  retrieve(pk: KeyOf<T>, options?: CallOptions): Promise<RowOf<T>>;
  metadata(pk?: KeyOf<T>, options?: CallOptions): Promise<any>;
  live(options?: LiveOptions<RowOf<T>, FiltersOf<T>, KeyOf<T>>): LiveRows<RowOf<T>, KeyOf<T>>;
  watch(of: "list", input?: Input<FiltersOf<T> & Query, KeyOf<T>>): Watched<ListOf<T>>;
  watch(of: "retrieve", input: Input<Query, KeyOf<T>> & { pk: KeyOf<T> }): Watched<RowOf<T>>;
  watch<N extends keyof ActionsOf<T>>(
    of: N,
    ...input: {} extends Omit<InputOf<ActionsOf<T>[N]>, "data">
      ? [input?: Omit<InputOf<ActionsOf<T>[N]>, "data">]
      : [input: Omit<InputOf<ActionsOf<T>[N]>, "data">]
  ): Watched<OutputOf<ActionsOf<T>[N]>>;
  /** Call an action whose name is one of the methods here. */
  action(
    name: string,
    input?: Input & { data?: unknown; method?: string },
    options?: CallOptions,
  ): Promise<any>;
}

type Creates<T> = T extends { create: infer C }
  ? { create(data: C, options?: WriteOptions): Promise<RowOf<T>> }
  : {};
type Updates<T> = T extends { update: infer U }
  ? {
      update(pk: KeyOf<T>, data: U, options?: WriteOptions): Promise<RowOf<T>>;
      patch(pk: KeyOf<T>, data: Partial<U>, options?: WriteOptions): Promise<RowOf<T>>;
    }
  : {};
type Destroys<T> = T extends { destroy: true }
  ? { destroy(pk: KeyOf<T>, options?: WriteOptions): Promise<null> }
  : {};
type Acts<T> = {
  [N in Exclude<keyof ActionsOf<T>, keyof Reads<T>>]: (
    ...input: ArgumentsOf<ActionsOf<T>[N]>
  ) => ResultOf<ActionsOf<T>[N]>;
};

export type ViewSet<T> = Reads<T> & Creates<T> & Updates<T> & Destroys<T> & Acts<T>;

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

export type RowOfKnown<T> = RowOf<Known<T>>;
export type KeyOfKnown<T> = KeyOf<Known<T>>;
export type LiveOptionsOf<T> = LiveOptions<RowOf<Known<T>>, FiltersOf<Known<T>>, KeyOf<Known<T>>>;
export type WatchName<T> = keyof ActionsOf<Known<T>> | "list" | "retrieve";
export type WatchInput<T, N> = N extends keyof ActionsOf<T>
  ? Omit<InputOf<ActionsOf<T>[N]>, "data">
  : Input<FiltersOf<Known<T>> & Query, KeyOf<Known<T>>>;
export type WatchAnswer<T, N> = N extends keyof ActionsOf<T>
  ? OutputOf<ActionsOf<T>[N]>
  : N extends "list" ? ListOf<Known<T>> : RowOf<Known<T>>;

/** What bindings to frameworks show of a list, a watch and a room. */
export type LiveView<T, R = RowOf<Known<T>>> = LiveSnapshot<R> & Pick<LiveRows<R, KeyOf<Known<T>>>, "grow" | "keyOf" | "isPending">;
export type WatchView<T, N> = WatchSnapshot<WatchAnswer<T, N>>;
export type RoomView<U, M> = RoomSnapshot<Any<U>, Any<M>> & Pick<JoinedRoom<U, M>, "say" | "setTyping">;

export interface Rooms<U, M> {
  join(room: string | number): JoinedRoom<U, M>;
}

export type StreamOf<T> = 0 extends 1 & T
  ? any
  : T extends { room: { user: infer U; message: infer M } }
    ? Rooms<U, M>
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

export type Api<S> = Connected & { readonly [N in keyof S]: StreamOf<S[N]> };
