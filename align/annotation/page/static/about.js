// What a rater says about themselves, once, before the first item.
import { byId, element } from "./view.js";

function question({ name, question, values, required }) {
  const id = `about-${name}`;
  const input = values.length
    ? element("select", { id, name, required }, ...["", ...values].map((value) => element("option", { value, textContent: value })))
    : element("input", { id, name, required, maxLength: 200, autocomplete: "off" });
  const words = required ? question : `${question} (optional)`;
  return element("p", {}, element("label", { htmlFor: id, textContent: words }), input);
}

// Resolves to the answers by name, null where a question was left open.
export function askAbout(questions) {
  const form = byId("about-form");
  form.replaceChildren(...questions.map(question), element("button", { type: "submit", textContent: "Begin" }));
  byId("about").hidden = false;
  byId("about").querySelector("h2").focus();
  return new Promise((resolve) =>
    form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        byId("about").hidden = true;
        resolve(Object.fromEntries(questions.map(({ name }) => [name, byId(`about-${name}`).value.trim() || null])));
      },
      { once: true },
    ),
  );
}
