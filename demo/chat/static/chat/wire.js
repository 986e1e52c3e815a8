/* The list of frames sent and received, which shows how the demo works. */

const KEPT = 100;

/** Return a class of websockets that reports each text to `frames`, except pings. */
export function recorder(frames) {
  const tell = (out, text) => {
    if (JSON.parse(text).payload.action === "ping") return;
    frames.dispatchEvent(new CustomEvent("frame", { detail: { out, text } }));
  };
  return class extends WebSocket {
    constructor(...all) {
      super(...all);
      this.addEventListener("message", ({ data }) => tell(false, data));
    }

    send(text) {
      super.send(text);
      tell(true, text);
    }
  };
}

export function showWire(frames, { panel, toggle, template }) {
  const show = (isShown) => {
    toggle.setAttribute("aria-expanded", isShown);
    panel.hidden = !isShown;
  };
  toggle.onclick = () => show(panel.hidden);
  show(matchMedia("(min-width: 70rem)").matches);

  const list = panel.querySelector("ol");
  frames.addEventListener("frame", ({ detail }) => {
    list.prepend(frameItem(template, detail));
    while (list.children.length > KEPT) list.lastElementChild.remove();
  });
}

function frameItem(template, { out, text }) {
  const frame = JSON.parse(text);
  const { action, request_id, response_status } = frame.payload;
  const item = template.content.firstElementChild.cloneNode(true);
  const [arrow, what, status] = item.querySelectorAll("summary span");
  item.className = out ? "out" : response_status < 400 ? "in" : "in failed";
  arrow.textContent = out ? "↑" : "↓";
  arrow.ariaLabel = out ? "sent" : "received";
  const number = request_id == null ? "" : ` #${request_id}`;
  what.textContent = `${frame.stream ?? "socket"} · ${action}${number}`;
  status.textContent = response_status ?? "";
  item.querySelector("details").ontoggle = () => {
    item.querySelector("pre").textContent = JSON.stringify(frame, null, 2);
  };
  return item;
}
