/* The parts of a browser that the client looks at. */

class FakeDocument extends EventTarget {
  hidden = false;

  show() {
    this.hidden = false;
    this.dispatchEvent(new Event("visibilitychange"));
  }

  hide() {
    this.hidden = true;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

class FakeStorage {
  getItem(name) {
    return Object.hasOwn(this, name) ? this[name] : null;
  }

  setItem(name, value) {
    this[name] = String(value);
  }

  removeItem(name) {
    delete this[name];
  }
}

/** Counts listeners, so that a test sees those that were forgotten. */
export class Page {
  document = new FakeDocument();
  sessionStorage = new FakeStorage();
  #events = new EventTarget();
  listeners = 0;

  install() {
    const count =
      (target) =>
      (type, call, options = {}) => {
        this.listeners++;
        options.signal?.addEventListener("abort", () => this.listeners--);
        target(type, call, options);
      };
    const { document } = this;
    document.addEventListener = count(EventTarget.prototype.addEventListener.bind(document));
    globalThis.document = document;
    globalThis.sessionStorage = this.sessionStorage;
    globalThis.addEventListener = count(this.#events.addEventListener.bind(this.#events));
    globalThis.location = { href: "https://example.test/board/" };
    return this;
  }

  uninstall() {
    for (const name of ["document", "sessionStorage", "addEventListener", "location"]) {
      delete globalThis[name];
    }
  }

  dispatch(type, properties = {}) {
    this.#events.dispatchEvent(Object.assign(new Event(type), properties));
  }
}
