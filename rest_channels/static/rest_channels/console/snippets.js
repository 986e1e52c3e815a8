/* A frame as code, to be copied. */

const PRIVATE = "<your credentials>";

/** Return `[title, text]` of each form that there is. */
export function snippets({ url, stream, frame, isRoot, http, origin }) {
  const bare = stripped(frame);
  const message = isRoot ? { stream, payload: bare } : bare;
  return [
    ["JavaScript", javascript(url, stream, bare)],
    ["Python", python(url, message)],
    ["websockets", websockets(url, message)],
    ...(http ? [["curl", curl(origin, http, bare)]] : []),
  ];
}

/** Return the frame without the credentials in it. */
function stripped(frame) {
  const { request_id, headers, ...rest } = frame;
  if (!headers) return rest;
  const { authorization, ...others } = headers;
  return { ...rest, headers: authorization ? { ...others, authorization: PRIVATE } : others };
}

const METHODS = {
  list: ({ query }) => [query],
  retrieve: ({ pk }) => [pk],
  create: ({ data }) => [data],
  update: ({ pk, data }) => [pk, data],
  partial_update: ({ pk, data }) => [pk, data],
  destroy: ({ pk }) => [pk],
};
const NAMES = { partial_update: "patch" };
const PLAIN = new Set(["action", "pk", "data", "query"]);

function javascript(url, stream, frame) {
  const target = /^[A-Za-z_$][\w$]*$/.test(stream)
    ? `api.${stream}`
    : `api.stream(${JSON.stringify(stream)})`;
  const { action, ...rest } = frame;
  const lines = [
    'import { connect } from "rest-channels";',
    "",
    `const api = connect(${JSON.stringify(url)});`,
  ];
  const isPlain = Object.keys(frame).every((name) => PLAIN.has(name));
  if (action === "subscribe" || action === "subscribe_instance") {
    const { query, pk, window } = rest;
    lines.push(
      `const rows = ${target}.live(${JSON.stringify({ query, pk, window })});`,
      "rows.subscribe(() => console.log(rows.rows));",
    );
  } else if (action === "watch") {
    const { of, query, pk } = rest;
    lines.push(
      `const answer = ${target}.watch(${JSON.stringify(of)}, ${JSON.stringify({ query, pk })});`,
      "answer.subscribe(() => console.log(answer.data));",
    );
  } else if (Object.hasOwn(METHODS, action) && isPlain) {
    const values = METHODS[action](rest).map((value) => JSON.stringify(value) ?? "undefined");
    while (values.at(-1) === "undefined") values.pop();
    lines.push(`const data = await ${target}.${NAMES[action] ?? action}(${values.join(", ")});`);
  } else {
    const { headers, ...input } = rest;
    const options = headers ? `, ${JSON.stringify({ headers })}` : "";
    lines.push(
      `const data = await ${target}.action(${JSON.stringify(action)}, ${JSON.stringify(input)}${options});`,
    );
  }
  return lines.join("\n");
}

function python(url, message) {
  return [
    "import asyncio",
    "import json",
    "",
    "from websockets.asyncio.client import connect",
    "",
    "",
    "async def main():",
    `    async with connect(${JSON.stringify(url)}) as socket:`,
    `        await socket.send(json.dumps(${literal(message)}))`,
    "        print(json.loads(await socket.recv()))",
    "",
    "",
    "asyncio.run(main())",
  ].join("\n");
}

/** Write a value as Python does. */
export function literal(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object")
    return `{${Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([name, item]) => `${JSON.stringify(name)}: ${literal(item)}`)
      .join(", ")}}`;
  return JSON.stringify(value);
}

function websockets(url, message) {
  return `python -m websockets ${quoted(url)}\n${JSON.stringify(message)}`;
}

function curl(origin, { verb, path }, { data, query }) {
  const address = new URL(path, origin);
  for (const [name, value] of Object.entries(query ?? {}))
    for (const item of [value].flat())
      address.searchParams.append(name, item === null ? "" : String(item));
  const lines = [`curl -X ${verb} ${quoted(address.href)}`, `-H 'Accept: application/json'`];
  if (data !== undefined)
    lines.push(`-H 'Content-Type: application/json'`, `-d ${quoted(JSON.stringify(data))}`);
  return lines.join(" \\\n  ");
}

/** Quote a word for a shell. */
export const quoted = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;
