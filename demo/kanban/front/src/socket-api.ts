/*
 * The types of an API over websockets, for connect<Streams>(url) of the package rest-channels.
 *
 * Do not edit them: `manage.py socket_schema --format ts` makes them of serializers, filters and
 * routers.
 */

export interface Board {
  id: number;
  /** At most 50 characters. */
  title: string;
  members: string[];
}

export interface Card {
  id: number;
  board: number;
  column: number;
  /** Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only. */
  author: string;
  /** At most 200 characters. */
  title: string;
  position: number;
}

export interface CardRequest {
  column: number;
  /** At most 200 characters. */
  title: string;
  position: number;
}

export interface Column {
  id: number;
  board: number;
  /** At most 50 characters. */
  title: string;
  position: number;
}

export interface ColumnRequest {
  board: number;
  /** At most 50 characters. */
  title: string;
  position: number;
}

/** Numbers of cards by the ids of boards and columns. */
export interface Counts {
  boards: { [key: string]: number };
  columns: { [key: string]: number };
}

export interface Message {
  id: number;
  room: number;
  /** Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only. */
  author: string;
  /** At most 500 characters. */
  text: string;
  /** Date and time as text, ISO 8601. */
  created: string;
}

export interface MessageRequest {
  room: number;
  /** At most 500 characters. */
  text: string;
}

export interface PaginatedMessageList {
  /** URL. */
  next: string | null;
  /** URL. */
  previous: string | null;
  results: Message[];
}

export interface Room {
  id: number;
  /** At most 50 characters. */
  name: string;
  /** At most 50 characters. */
  title: string;
  /** At most 100 characters. */
  topic: string;
  staff_only: boolean;
}

export interface User {
  id: number;
  /**
   * Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.
   * At most 150 characters.
   */
  username: string;
  /** Designates whether the user can log into this admin site. */
  is_staff: boolean;
}

/** The streams of /, each with the types of its viewset or rooms. */
export interface Streams {
  rooms: {
    row: Room;
    filters: {
      /** A search term. */
      search: string;
    };
  };
  messages: {
    row: Message;
    list: PaginatedMessageList;
    filters: {
      /** The pagination cursor value. */
      cursor: string;
      room: number;
      /** A search term. */
      search: string;
    };
    create: MessageRequest;
    update: MessageRequest;
    destroy: true;
  };
  users: {
    row: User;
    filters: {
      /** A search term. */
      search: string;
    };
    actions: {
      /** Return the current user. */
      me: { output: User };
    };
  };
  /** A room is named by its id, as text: `{"action": "join", "room": "2"}`. */
  here: { room: { user: User; message: unknown; event: { [key: string]: unknown } } };
  boards: {
    row: Board;
    filters: {
      /** A search term. */
      search: string;
    };
    actions: {
      /** Return the number of cards of each board and each column of the user. */
      counts: { output: Counts };
    };
  };
  columns: {
    row: Column;
    filters: {
      board: number;
      /** A search term. */
      search: string;
    };
    create: ColumnRequest;
    update: ColumnRequest;
    destroy: true;
  };
  cards: {
    row: Card;
    filters: {
      board: number;
      /** A search term. */
      search: string;
    };
    create: CardRequest;
    update: CardRequest;
    destroy: true;
  };
  /** A room is named by the id of its board, as text. */
  at_board: { room: { user: User; message: unknown } };
}
