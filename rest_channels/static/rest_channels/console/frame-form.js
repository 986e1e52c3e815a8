/* The form of a frame: a field for each lookup, query parameter and field of the data. */

import { button, fill, find, make } from "./dom.js";
import { fieldsOf, makeField } from "./schema-fields.js";

const FENCE = "true: reply after the events of the write";

/** The fields of a message to a handler, beside those that every frame has. */
export function messageFields({ message }, components) {
  const isOwn = ([name]) => !["action", "request_id"].includes(name);
  return message ? fieldsOf(message, components).filter(isOwn) : [];
}

/** @param {(path: string[], value: any) => void} put is called with each value that is typed */
export function createForm(put) {
  const box = find("#form-fields");
  let fields = [];
  let components = {};

  function draw(action, frame, known) {
    components = known;
    fields = [];
    const sections = [
      ["Row", lookups(action)],
      ["Query", query(action, frame)],
      ["Data", data(action)],
      ["Options", options(action)],
    ].filter(([, made]) => made.length);
    const sets = sections.map(([title, made]) =>
      make("fieldset", {}, make("legend", {}, title), made),
    );
    fill(box, sets.length ? sets : make("p", { class: "quiet" }, "This action takes nothing."));
    for (const { path, show } of fields) show(path.reduce((value, name) => value?.[name], frame));
  }

  function field(path, schema, isRequired = false, doc = "") {
    const change = (value) => put(path, value);
    const made = makeField(path.at(-1), schema, { isRequired, doc, components, change });
    fields.push({ ...made, path });
    return made.element;
  }

  const lookups = (action) =>
    action.lookups.map(({ name, schema, doc }) => field([name], schema, true, doc));

  function query(action, frame) {
    const known = action.query.map(({ name, schema, doc, isRequired }) =>
      field(["query", name], schema, isRequired, doc),
    );
    const others = Object.keys(frame.query ?? {})
      .filter((name) => !action.query.some((item) => item.name === name))
      .map((name) => field(["query", name], {}));
    return [...known, ...others, ...(action.isSafe ? [adder(action, frame)] : [])];
  }

  /** A field for the name of a parameter that the description does not know. */
  function adder(action, frame) {
    const label = "Name of another parameter";
    const input = make("input", {
      ...{ placeholder: "another parameter", "aria-label": label, autocomplete: "off" },
    });
    const add = () => {
      const name = input.value.trim();
      if (!name || Object.hasOwn(frame.query ?? {}, name)) return;
      const query = { ...frame.query, [name]: "" };
      put(["query", name], "");
      draw(action, { ...frame, query }, components);
      fields.find(({ path }) => path[0] === "query" && path[1] === name).focus();
    };
    return make("div", { class: "adder" }, input, button("Add", add));
  }

  function data(action) {
    // A handler of class-based consumers takes a message, not the body of a request.
    if (action.message)
      return messageFields(action, components).flatMap(([name, schema, isRequired]) =>
        name === "data" ? body(schema, isRequired) : [field([name], schema, isRequired)],
      );
    return action.request ? body(action.request, action.name !== "partial_update") : [];
  }

  function body(schema, isWhole) {
    const known = fieldsOf(schema, components);
    if (!known.length) return [field(["data"], schema)];
    return known.map(([name, item, isRequired]) =>
      field(["data", name], item, isRequired && isWhole),
    );
  }

  function options(action) {
    if (action.message) return [];
    const verbs = action.verbs.map((verb) => verb.toUpperCase());
    return [
      ...(action.isWindowed
        ? [field(["window"], { type: "integer" }, false, "only the first rows")]
        : []),
      ...(action.isSafe ? [] : [field(["fence"], { type: "boolean" }, false, FENCE)]),
      ...(verbs.length > 1 ? [field(["method"], { enum: verbs })] : []),
    ];
  }

  return {
    draw,

    /** Forget the errors of the frame before. */
    forgive() {
      for (const { complain } of fields) complain([]);
    },

    /** Put errors beside the field of that name; return whether there is one. */
    complain(name, texts) {
      const place = fields.find(({ path }) => path.at(-1) === name);
      place?.complain(texts);
      return place !== undefined;
    },

    focusWrong() {
      box.querySelector('[aria-invalid="true"]')?.focus();
    },
  };
}
