/* All client code beside the components: the connection, and where a card goes. The types are made by `manage.py socket_schema`. */
import { connect } from "rest-channels";
import type { Streams } from "./socket-api";

export type { Board, Card, Column } from "./socket-api";

export const api = connect<Streams>(import.meta.env.DEV ? "/socket/" : "/");
type Placed = { position: number };
export const between = (before?: Placed, after?: Placed) =>
  before && after ? (before.position + after.position) / 2 : before ? before.position + 1024 : (after?.position ?? 2048) - 1024;
