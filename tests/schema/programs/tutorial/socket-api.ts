/*
 * The types of an API over websockets, for connect<Streams>(url) of the package rest-channels.
 *
 * Do not edit them: `manage.py socket_schema --format ts` makes them of serializers, filters and
 * routers.
 */

export interface Message {
  id: number;
  room: number;
  author: string;
  /** At most 200 characters. */
  text: string;
}

export interface MessageRequest {
  room: number;
  /** At most 200 characters. */
  text: string;
}

export interface PaginatedMessageList {
  count: number;
  /** URL. */
  next: string | null;
  /** URL. */
  previous: string | null;
  results: Message[];
}

export interface PaginatedRoomList {
  count: number;
  /** URL. */
  next: string | null;
  /** URL. */
  previous: string | null;
  results: Room[];
}

export interface Room {
  id: number;
  /** At most 50 characters. */
  name: string;
}

export interface RoomRequest {
  /** At most 50 characters. */
  name: string;
}

/** The streams of /, each with the types of its viewset or rooms. */
export interface Streams {
  rooms: {
    row: Room;
    list: PaginatedRoomList;
    filters: {
      /** A page number within the paginated result set. */
      page: number;
      /** A search term. */
      search: string;
    };
    create: RoomRequest;
    update: RoomRequest;
    destroy: true;
    actions: { latest: { pk: number; output: Message } };
  };
  messages: {
    row: Message;
    list: PaginatedMessageList;
    filters: {
      author__username: string;
      /** A page number within the paginated result set. */
      page: number;
      room: number;
      /** A search term. */
      search: string;
    };
    create: MessageRequest;
    update: MessageRequest;
    destroy: true;
    actions: {
      doze: { output: Message; watch: false };
      export: { item: Message; watch: false };
    };
  };
}
