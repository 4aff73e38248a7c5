// Keyboard, dialogs and the toggles of the page.
import { LETTERS, byId, element } from "./view.js";

const PAIR = [["1 or A", "A is better"], ["2 or B", "B is better"], ["0 or T", "Tie"]];
const MANY = [["1, 2, … or A, B, …", "Best"], ["Shift with it", "Worst"], ["Enter", "Save"], ["0 or T", "All alike"]];
const ALL = [["← →", "Previous and next item"], ["M", "Monospace"], ["?", "This help"]];

export function explainKeys(isPair, asked) {
  const rows = [...(isPair ? PAIR : MANY), ...(asked ? [["Tab, Space", "Answers about a response"]] : []), ...ALL];
  byId("keys").replaceChildren(
    ...rows.flatMap(([key, use]) => [
      element("dt", {}, element("kbd", { textContent: key })),
      element("dd", { textContent: use }),
    ]),
  );
}

function remembered(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function toggleMono(on = !document.body.classList.contains("mono")) {
  document.body.classList.toggle("mono", on);
  byId("mono").setAttribute("aria-pressed", String(on));
  remembered("align-mono", on ? "on" : "off");
}

export function listen(actions) {
  const help = byId("help");
  const shortcuts = byId("shortcuts");
  shortcuts.checked = remembered("align-shortcuts") !== "off";
  shortcuts.addEventListener("change", () => remembered("align-shortcuts", shortcuts.checked ? "on" : "off"));
  toggleMono(remembered("align-mono") === "on");
  byId("mono").addEventListener("click", () => toggleMono());
  byId("open-help").addEventListener("click", () => help.showModal());
  byId("close-help").addEventListener("click", () => help.close());
  byId("unfold").addEventListener("click", () => {
    byId("turns").className = "";
    byId("turns").removeAttribute("tabindex");
    byId("unfold").hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || help.open || !shortcuts.checked) return;
    if (press(event, actions, () => help.showModal())) event.preventDefault();
  });
}

function press(event, actions, openHelp) {
  const { key, code, shiftKey, target } = event;
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(code)?.[1];
  const letter = key.length === 1 ? LETTERS.indexOf(key.toUpperCase()) : -1;
  const onControl = target.closest("button, input, a, summary") !== null;
  if (key === "?") openHelp();
  else if (digit === "0" || key === "t") actions.tie();
  else if (digit) actions.at(Number(digit) - 1, shiftKey);
  else if (key === "ArrowLeft" && target.type !== "radio") actions.step(-1);
  else if (key === "ArrowRight" && target.type !== "radio") actions.step(1);
  else if (key === "Enter" && (!onControl || target.type === "radio" || target.matches(".value"))) actions.save();
  else if (key === "m") toggleMono();
  else if (letter >= 0 && letter < 12) actions.at(letter, shiftKey);
  else return false;
  return true;
}
