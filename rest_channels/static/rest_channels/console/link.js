/*
 * Links that open the console with a frame filled in. The frame is behind '#', which browsers do not
 * send, and it is never sent over the socket before the user presses a button.
 */

const LONGEST = 20_000;
// The keys that a frame in a link may have.
const KEYS =
  /^(?!headers$|idempotency_key$|since$|held$|__proto__$)[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;
const SECRET = /^(authorization|password|token|access_token|api_?key|secret|jwt|credentials)$/i;

/**
 * Return what a fragment asks for: `{ stream, frame, live }`, `{ refusal }`, or null for none.
 *
 * @param {string} fragment `location.hash`
 */
export function readLink(fragment) {
  if (fragment.length < 2) return null;
  if (fragment.length > LONGEST) return { refusal: "The link is too long." };
  const fields = new URLSearchParams(fragment.slice(1));
  if ([...fields.keys()].some((name) => SECRET.test(name)))
    return { refusal: "The link carries a token. It is ignored: links are logged and shared." };
  const stream = fields.get("stream");
  if (stream === null) return { refusal: "The link names no stream." };
  let frame;
  try {
    frame = JSON.parse(fields.get("frame") ?? "{}");
  } catch {
    return { refusal: "The link's frame is not JSON." };
  }
  if (frame === null || typeof frame !== "object" || Array.isArray(frame))
    return { refusal: "The link's frame is not an object." };
  if (frame.action === "authenticate" || holdsSecret(frame))
    return { refusal: "The link carries credentials. It is ignored: links are logged and shared." };
  const kept = Object.entries(frame).filter(([name]) => KEYS.test(name));
  return {
    stream,
    frame: Object.fromEntries(kept),
    live: fields.get("live") === "1",
    socket: fields.get("socket"),
  };
}

/** Return the fragment that fills in `frame`, without credentials. */
export function writeLink(stream, frame, socket) {
  const { headers, idempotency_key, ...rest } = frame;
  const text = JSON.stringify(rest, (name, value) => (SECRET.test(name) ? undefined : value));
  const fields = new URLSearchParams({ stream, frame: text });
  if (socket) fields.set("socket", socket);
  return `#${fields}`;
}

function holdsSecret(value) {
  if (value === null || typeof value !== "object") return false;
  return Object.entries(value).some(
    ([name, item]) => name === "authorization" || name === "headers" || holdsSecret(item),
  );
}
