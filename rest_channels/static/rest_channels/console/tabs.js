/* The tabs of the page, by the keyboard pattern of ARIA. */

import { find } from "./dom.js";

export function createTabs() {
  const tabs = [...document.querySelectorAll('#tabs [role="tab"]')];
  const listeners = new Set();

  function show(name, isFocused = false) {
    for (const tab of tabs) {
      const isShown = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(isShown));
      tab.tabIndex = isShown ? 0 : -1;
      find(`#panel-${tab.dataset.tab}`).hidden = !isShown;
      if (isShown && isFocused) tab.focus();
    }
    for (const listen of listeners) listen(name);
  }

  for (const [at, tab] of tabs.entries()) {
    tab.addEventListener("click", () => show(tab.dataset.tab));
    tab.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (step) show(tabs[(at + step + tabs.length) % tabs.length].dataset.tab, true);
    });
  }
  return { show, subscribe: (listen) => listeners.add(listen) };
}
