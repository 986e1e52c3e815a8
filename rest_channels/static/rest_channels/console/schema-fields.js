/* Form fields for a JSON Schema, and back to values. A field may hold a wrong value: the server says so. */

import { fill, make, newId } from "./dom.js";

/** Follow `$ref` and single `allOf`s. */
export function resolve(schema, components) {
  for (let depth = 0; schema && depth < 8; depth++) {
    if (schema.$ref)
      schema = { ...components[schema.$ref.split("/").at(-1)], ...without(schema, "$ref") };
    else if (schema.allOf?.length === 1)
      schema = { ...schema.allOf[0], ...without(schema, "allOf") };
    else break;
  }
  return schema ?? {};
}

function without(object, name) {
  const { [name]: _, ...rest } = object;
  return rest;
}

const typesOf = (schema) => [schema.type].flat().filter((type) => type && type !== "null");

/** Return the choices of a schema, `null` among them if it is one. */
export function choicesOf(schema, components) {
  const parts = [schema, ...(schema.oneOf ?? schema.anyOf ?? [])].map((part) =>
    resolve(part, components),
  );
  const choices = parts.flatMap((part) => part.enum ?? ("const" in part ? [part.const] : []));
  return choices.length ? [...new Set(choices)] : null;
}

/** Write what a schema takes in a few words. */
export function typeText(given, components) {
  const schema = resolve(given, components);
  const choices = choicesOf(schema, components);
  if (choices) return "choice";
  if (schema.type === "array") return `list of ${typeText(schema.items ?? {}, components)}`;
  const [type = "any"] = typesOf(schema);
  return [schema.format ?? type, schema.maxLength && `at most ${schema.maxLength} characters`]
    .filter(Boolean)
    .join(", ");
}

/** The fields that a client may send: `[name, schema, isRequired]`. */
export function fieldsOf(given, components) {
  const schema = resolve(given, components);
  const parts = [schema, ...(schema.allOf ?? [])].map((part) => resolve(part, components));
  const required = new Set(parts.flatMap((part) => part.required ?? []));
  return parts
    .flatMap((part) => Object.entries(part.properties ?? {}))
    .map(([name, field]) => [name, resolve(field, components), required.has(name)])
    .filter(([, field]) => !field.readOnly);
}

/**
 * Make a labelled field. `change(value)` is called with the value, or with undefined once it is empty.
 *
 * @returns {{ element: HTMLElement, show(value: any): void, complain(errors: string[]): void }}
 */
export function makeField(name, schema, { isRequired = false, components = {}, doc = "", change }) {
  const id = newId();
  const choices = choicesOf(schema, components);
  const [type] = typesOf(schema);
  const isText = !choices && type !== "boolean" && type !== "array" && type !== "object";
  const isJson = !choices && (type === "array" || type === "object");
  const options = choices ?? (type === "boolean" ? [true, false] : null);
  const input = options
    ? make(
        "select",
        {},
        make("option", { value: "" }, "—"),
        options.map((value) =>
          make("option", { value: JSON.stringify(value) }, value === null ? "null" : String(value)),
        ),
      )
    : make(isJson || isLong(schema) ? "textarea" : "input", {
        rows: isJson ? 3 : 2,
        spellcheck: false,
      });
  Object.assign(input, { id, autocomplete: "off" });
  if (isSecret(name, schema)) input.type = "password";
  if (isText && isNumber(schema)) input.inputMode = "decimal";
  input.setAttribute("aria-describedby", `${id}-doc ${id}-error`);
  if (isRequired) input.setAttribute("aria-required", "true");
  const error = make("p", { id: `${id}-error`, class: "field-error" });
  const help = [typeText(schema, components), doc || schema.description]
    .filter(Boolean)
    .join(" · ");

  input.addEventListener("input", () => {
    complain([]);
    change(read());
  });

  function read() {
    const text = input.value;
    if (text === "") return undefined;
    if (options) return JSON.parse(text);
    if (isJson || (type === undefined && /^[[{"]/.test(text.trim()))) return parsed(text);
    return isNumber(schema) && text.trim() !== "" && Number.isSafeInteger(Number(text))
      ? Number(text)
      : isFloat(schema, text)
        ? Number(text)
        : text;
  }

  function complain(errors) {
    fill(error, errors.join(" "));
    input.toggleAttribute("aria-invalid", errors.length > 0);
    if (errors.length) input.setAttribute("aria-invalid", "true");
  }

  return {
    element: make(
      "div",
      { class: "field" },
      make(
        "label",
        { for: id },
        name,
        isRequired ? make("span", { class: "required", title: "required" }, " *") : "",
      ),
      input,
      make("p", { id: `${id}-doc`, class: "field-doc" }, help),
      error,
    ),
    show(value) {
      if (document.activeElement === input) return;
      if (value === undefined) input.value = "";
      else if (options) input.value = JSON.stringify(value);
      else input.value = typeof value === "object" ? JSON.stringify(value) : String(value);
    },
    complain,
    focus: () => input.focus(),
  };
}

const isNumber = (schema) => ["integer", "number"].includes(typesOf(schema)[0]);
const isFloat = (schema, text) =>
  typesOf(schema)[0] === "number" && text.trim() !== "" && Number.isFinite(Number(text));
const isLong = ({ maxLength = 0, format, type }) =>
  type === "string" && !format && (maxLength === 0 || maxLength > 200);
const isSecret = (name, { format }) => format === "password" || /password|secret/i.test(name);

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
