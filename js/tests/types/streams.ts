/* Types of an API, written by hand, as an application writes them. */

export interface Message {
  id: number;
  room: number;
  author: string;
  text: string;
}

export interface User {
  id: number;
  username: string;
}

export interface Streams {
  messages: {
    row: Message;
    create: { room: number; text: string };
    update: { room: number; text: string };
    destroy: true;
    list: { next: string | null; results: Message[] };
    filters: { room: number; search: string; page: number };
    actions: {
      pin: { pk: number; data: { until: string }; output: Message };
      export: { query: { room: number }; item: Message };
      stats: { output: { count: number } };
    };
  };
  rooms: { row: { slug: string; title: string }; key: string };
  pages: {
    row: { id: number; text: string };
    list: never;
    patch: { text: string };
    lookups: { book_pk: number };
    actions: {
      lock: { pk: number; method?: "post" | "delete"; output: boolean; watch: false };
      size: { pk: number; output: number };
    };
  };
  shouts: { room: { user: User; message: string; event: { text: string } } };
  here: { room: { user: User; message: { text: string } } };
}
