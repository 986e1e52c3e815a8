/* Error messages for the user. */

import { $ } from "./dom.js";
import { ConnectionLost } from "../rest_channels/client.js";

/** Do `work`. `complain` shows what the server rejects in its text; the page shows other errors. */
export async function attempt(work, complain) {
  $("trouble").hidden = true;
  try {
    await work();
  } catch (error) {
    const about = error.errors?.[0]?.text;
    if (about && complain) complain(about.join(" "));
    else explain(error);
  }
}

function explain(error) {
  const [text, close] = $("trouble").children;
  text.textContent = inWords(error);
  close.onclick = () => ($("trouble").hidden = true);
  $("trouble").hidden = false;
}

function inWords(error) {
  if (error instanceof ConnectionLost) {
    return error.wasSent
      ? "The connection broke before the answer arrived. Check whether it was done, then retry."
      : "Not connected: nothing was sent. Your text is still here.";
  }
  if (error.status === undefined) {
    console.error(error);
    return "Something on this page went wrong. Reloading it may help.";
  }
  if (error.status === 404) return "It no longer exists: another user may have deleted it.";
  return error.errors.map(sentence).join(" ");
}

/** Return a message as it is, or join those about the fields of an object. */
export function sentence(item) {
  return typeof item === "string" ? item : Object.values(item).flat().map(sentence).join(" ");
}
