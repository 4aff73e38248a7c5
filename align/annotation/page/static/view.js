// What is on the screen. Every text of the data enters as textContent: no markup in it is ever read.
export const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
export const byId = (id) => document.getElementById(id);
const ROLES = { user: "User", assistant: "Assistant", system: "System" };

export function element(name, options = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function text(content) {
  const empty = content.trim() === "";
  return element("div", { className: empty ? "text empty" : "text", dir: "auto", textContent: empty ? "(empty)" : content });
}

export function drawPrompt(turns) {
  const several = turns.length > 1;
  const node = byId("turns");
  node.replaceChildren(
    ...turns.map((turn) => {
      const role = element("p", { className: "role", textContent: ROLES[turn.role] ?? turn.role, hidden: !several });
      return element("div", { className: `turn ${turn.role === "user" ? "user" : "other"}` }, role, text(turn.content));
    }),
  );
  node.className = "folded";
  const long = node.scrollHeight > node.clientHeight + 8;
  if (!long) node.className = "";
  byId("unfold").hidden = !long;
  if (long) node.tabIndex = 0;
  else node.removeAttribute("tabindex");
  node.scrollTop = several ? node.scrollHeight : 0; // the last turn is the one that is answered
}

// Draws the cards; in a choice of best and worst each has two boxes, and `pick(kind, place)` is told of a change.
// Below a response stand the questions about it; `remark(name, place, value)` is told of an answer.
export function drawResponses(responses, marked, { pick, fields, remark }) {
  const cards = responses.map((content, place) => {
    const unseen = element("span", { className: "unseen", textContent: "Response " });
    const letter = element("span", { className: "letter", textContent: LETTERS[place] });
    const head = element("h3", { id: `name-${place}` }, unseen, letter);
    const card = element("article", { "aria-labelledby": `name-${place}` }, element("div", { className: "head" }, head));
    if (marked) card.firstChild.append(...["best", "worst"].map((kind) => box(kind, place, pick)));
    card.append(text(content), ...fields.map((field) => question(field, place, remark)));
    return card;
  });
  byId("responses").replaceChildren(...cards);
  byId("responses").className = responses.length === 2 ? "two" : responses.length === 4 ? "many four" : "many";
}

function box(kind, place, pick) {
  const input = element("input", { type: "radio", name: kind, value: String(place), id: `${kind}-${place}` });
  input.addEventListener("change", () => pick(kind, place));
  const words = element("span", { textContent: kind === "best" ? "Best" : "Worst" });
  words.append(element("span", { className: "unseen", textContent: `: response ${LETTERS[place]}` }));
  return element("label", { className: `pick ${kind}` }, input, words);
}

function question(field, place, remark) {
  const id = `${field.name}-${place}`;
  const asked = element("p", { id, textContent: field.question });
  asked.append(element("span", { className: "unseen", textContent: `: response ${LETTERS[place]}` }));
  const end = (at) => element("span", { className: "end", textContent: field.ends[at], hidden: !field.ends[at] });
  const values = field.values.map((value) => {
    const button = element("button", { type: "button", className: "value", textContent: `${value}` });
    Object.assign(button.dataset, { field: field.name, place, value: JSON.stringify(value) });
    button.addEventListener("click", () => remark(field, place, value));
    return button;
  });
  const group = element("div", { role: "group", className: "values", "aria-labelledby": id }, end(0), ...values, end(1));
  return element("div", { className: field.values.length > 4 ? "remark wide" : "remark" }, asked, group);
}

export const answers = (name, place) =>
  [...document.querySelectorAll(".value")].filter(({ dataset }) => dataset.field === name && dataset.place === `${place}`);

export function markRemarks(remarks) {
  for (const button of document.querySelectorAll(".value")) {
    const { field, place, value } = button.dataset;
    button.setAttribute("aria-pressed", String(JSON.stringify(remarks[field][place]) === value));
  }
}

export function mark(choice) {
  document.querySelectorAll("#responses article").forEach((card, place) => {
    card.classList.toggle("best", choice?.best === place);
    card.classList.toggle("worst", choice?.worst === place);
    for (const kind of ["best", "worst"]) {
      const input = byId(`${kind}-${place}`);
      if (input) input.checked = choice?.[kind] === place;
    }
  });
}

export function drawProgress(items) {
  const done = items.filter((item) => item.judged).length;
  byId("bar").max = items.length || 1;
  byId("bar").value = done;
  byId("count").textContent = `${done} of ${items.length} judged`;
}

let hiding = 0;

export function say(message, { stays = false, fault = false } = {}) {
  clearTimeout(hiding);
  const status = byId("status");
  status.textContent = message;
  status.classList.toggle("fault", fault);
  if (message && !stays) hiding = setTimeout(() => (status.textContent = ""), 2500);
}
