/* All client code beside the components: the types of the API, the connection, and where a card goes. */
import { connect } from "rest-channels";

export type Board = { id: number; title: string; members: string[] };
export type Column = { id: number; board: number; title: string; position: number };
export type Card = { id: number; board: number; column: number; author: string; title: string; position: number };
type Streams = {
  boards: { row: Board; actions: { counts: { output: Record<"boards" | "columns", Record<string, number>> } } };
  columns: { row: Column; create: Omit<Column, "id">; update: Omit<Column, "id">; destroy: true; filters: { board: number } };
  cards: { row: Card; create: Omit<Card, "id" | "author">; update: Omit<Card, "id" | "author">; destroy: true; filters: { board: number } };
  at_board: { room: { user: { id: number; username: string }; message: never } };
};

export const api = connect<Streams>(import.meta.env.DEV ? "/socket/" : "/");
type Placed = { position: number };
export const between = (before?: Placed, after?: Placed) =>
  before && after ? (before.position + after.position) / 2 : before ? before.position + 1024 : (after?.position ?? 2048) - 1024;
