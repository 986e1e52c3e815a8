/* The list of frames as they go and come: what a reader of this demo is here for. */

const KEPT = 100;

export function showWire(socket, { panel, toggle, template }) {
  const show = (isShown) => {
    toggle.setAttribute("aria-expanded", isShown);
    panel.hidden = !isShown;
  };
  toggle.onclick = () => show(panel.hidden);
  show(matchMedia("(min-width: 70rem)").matches);

  const list = panel.querySelector("ol");
  socket.addEventListener("frame", ({ detail }) => {
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
  what.textContent = `${frame.stream} · ${action}${number}`;
  status.textContent = response_status ?? "";
  item.querySelector("details").ontoggle = () => {
    item.querySelector("pre").textContent = JSON.stringify(frame, null, 2);
  };
  return item;
}
