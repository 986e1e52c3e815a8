/* What went wrong, kindly. */

import { $ } from "./dom.js";
import { ConnectionLost } from "./socket.js";

/** Do `work`. Where the server finds its text wrong, `complain` says why; else the page does. */
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
      ? "The connection broke before the answer came. Look first whether it was done."
      : "Not connected: nothing was sent, and nothing you wrote is lost.";
  }
  if (error.status === undefined) {
    console.error(error);
    return "Something on this page went wrong. Reloading it may help.";
  }
  if (error.status === 404) return "It is not there any more: somebody may have deleted it.";
  return error.errors.map(sentence).join(" ");
}

/** A message as it is; an object of fields as the words about them. */
export function sentence(item) {
  return typeof item === "string" ? item : Object.values(item).flat().map(sentence).join(" ");
}
