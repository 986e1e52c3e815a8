/* The user of the page: by the session's cookie, or by a token that is kept in memory alone. */

import { announce, find } from "./dom.js";

export function createAccount(page, session) {
  const form = find("#token-form");
  const field = find("#token");
  const forget = find("#token-forget");

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const value = field.value.trim();
    field.value = "";
    if (!value) return;
    // A bare token gets the usual word in front.
    session.authorize(/\s/.test(value) ? value : `${find("#token-kind").value} ${value}`);
    draw("The token is in use.");
  });
  forget.addEventListener("click", () => {
    session.authorize(null);
    draw("The token is forgotten.");
  });
  find("#sign-out")?.addEventListener("click", async () => {
    const answer = await fetch(page.signOut, {
      method: "POST",
      headers: { [page.csrfHeader]: page.csrf },
    });
    if (!answer.ok) return announce(`Signing out failed: ${answer.status}.`);
    find("#who").textContent = "signed out";
    find("#sign-out").hidden = true;
    find("#sign-in")?.removeAttribute("hidden");
    announce("Signed out.");
  });

  function draw(text) {
    forget.hidden = !session.hasToken;
    find("#token-state").textContent = session.hasToken ? "in use" : "";
    find("#token-box").open = false;
    announce(text);
  }
}
