// One rater's page: shows an item, takes a judgment, goes to the next one that has none.
import { Refused, get, send } from "./api.js";
import { askAbout } from "./about.js";
import { listen, explainKeys } from "./keys.js";
import { LETTERS, answers, byId, drawProgress, drawPrompt, drawResponses, element, mark, markRemarks, say } from "./view.js";

const SETTLE = 300; // milliseconds in which the second half of a double click is not yet meant for the new item
const away = (answer) =>
  say(`The server ${answer ? "has a fault" : "does not answer"}. Trying again …`, { stays: true, fault: true });
const drafts = new Map(); // by item, what was said of its responses and is not saved yet
let state, place, item, choice, remarks, shownAt;
let busy = true;

const isPair = () => state.task === "pairs";
const said = ({ best, worst }) =>
  best === null ? (isPair() ? "tie" : "all alike") : isPair() ? LETTERS[best] : `best ${LETTERS[best]}, worst ${LETTERS[worst]}`;

async function refresh() {
  state = await get("state", away);
  drawProgress(state.items);
}

async function show(next) {
  busy = true;
  byId("done").hidden = true;
  item = await get(`item/${state.items[next].id}`, away);
  place = next;
  choice = item.judgment ?? { best: null, worst: null };
  byId("work").hidden = byId("actions").hidden = false;
  byId("where").textContent = `Item ${place + 1} of ${state.items.length}`;
  drawPrompt(item.prompt);
  const blank = () => state.fields.map((field) => [field.name, item.responses.map(() => null)]);
  remarks = drafts.get(item.id) ?? { ...Object.fromEntries(blank()), ...item.judgment?.remarks };
  drawResponses(item.responses, !isPair(), { pick, fields: state.fields, remark });
  update();
  scrollTo(0, 0);
  byId("where").focus({ preventScroll: true });
  shownAt = performance.now();
  busy = false;
}

// Marks the choice; a tie has no marks, and counts as given only where it is stored.
function update() {
  mark(choice);
  markRemarks(remarks);
  const given = item.judgment;
  for (const button of byId("choices").children) {
    const { best, worst } = button.dataset;
    button.setAttribute("aria-pressed", String(given !== null && (best ?? "") === `${given.best ?? ""}` && !worst));
  }
  if (!isPair()) {
    byId("save").disabled = choice.best === null || choice.worst === null;
    byId("save").setAttribute("aria-pressed", String(given !== null && given.best !== null));
  }
  byId("previous").disabled = place === 0;
  byId("next").disabled = place === state.items.length - 1;
}

function pick(kind, index) {
  const other = kind === "best" ? "worst" : "best";
  choice = { ...choice, [kind]: index, [other]: choice[other] === index ? null : choice[other] };
  update();
}

// An answer given twice is taken back, unless one is asked for.
function remark({ name, required }, index, value) {
  const said = remarks[name][index] === value && !required ? null : value;
  remarks = { ...remarks, [name]: remarks[name].map((known, at) => (at === index ? said : known)) };
  drafts.set(item.id, remarks);
  update();
}

// Says which answer is missing, and goes there.
function complete() {
  for (const index of item.responses.keys())
    for (const { name, question, required } of state.fields)
      if (required && remarks[name][index] === null) {
        say(`First, of response ${LETTERS[index]}: ${question}`, { fault: true });
        answers(name, index)[0].focus();
        return false;
      }
  return true;
}

async function judge(best, worst) {
  if (busy || byId("actions").hidden || performance.now() - shownAt < SETTLE || !complete()) return;
  busy = true;
  const key = crypto.randomUUID();
  choice = { best, worst };
  mark(choice);
  say("Saving …", { stays: true });
  try {
    const body = { item: item.id, best, worst, key, replaces: item.judgment?.key ?? null, remarks };
    await send("judgment", body, { token: state.form_token, waiting: away });
    say(`Saved: ${said(choice)}`);
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 409) throw error;
    say(error.message, { fault: true });
    await refresh();
  }
  drafts.delete(item.id);
  state.items[place].judged = true;
  await forward();
}

async function forward() {
  drawProgress(state.items);
  const order = [...state.items.keys()].map((step) => (place + 1 + step) % state.items.length);
  const next = order.find((index) => !state.items[index].judged);
  if (next !== undefined) return show(next);
  byId("work").hidden = byId("actions").hidden = true;
  byId("done").hidden = false;
  byId("done").querySelector("h2").focus();
  busy = false;
}

function step(by) {
  if (busy || !state.items[place + by]) return;
  if (drafts.has(item.id)) say(`Item ${place + 1} is not saved before you choose`, { fault: true });
  guarded(() => show(place + by));
}
const tie = () => guarded(() => judge(null, null));
const save = () => !byId("save").disabled && guarded(() => judge(choice.best, choice.worst));

function drawChoices() {
  const button = (words, key, act, data = {}) => {
    const node = element("button", { type: "button", ...data.attributes }, words, element("kbd", { textContent: key }));
    Object.assign(node.dataset, data.values);
    node.addEventListener("click", (event) => event.detail < 2 && act());
    return node;
  };
  const side = (at) =>
    button(`${LETTERS[at]} is better`, at + 1, () => guarded(() => judge(at, 1 - at)), { values: { best: at } });
  const even = button(isPair() ? "Tie" : "All alike", "0", tie, { values: { best: "" } });
  const keep = button("Save", "Enter", save, { attributes: { id: "save" }, values: { worst: "any" } });
  byId("choices").replaceChildren(...(isPair() ? [side(0), even, side(1)] : [even, keep]));
}

// A fault that the page cannot mend by itself is told and stays on the screen.
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    busy = true;
    say(error instanceof Refused ? error.message : `${error}`, { stays: true, fault: true });
  }
}

// Asks what is asked of a rater once; answers given in another tab stand.
async function introduce() {
  const answers = await askAbout(state.labeller);
  try {
    await send("labeller", { answers }, { token: state.form_token, waiting: away });
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 409) throw error;
    say(error.message, { fault: true });
  }
  await refresh();
}

guarded(async () => {
  await refresh();
  byId("question").textContent = state.question;
  byId("rater").textContent = state.rater;
  byId("guidelines").textContent = state.guidelines;
  byId("guidelines").hidden = !state.guidelines;
  if (state.labeller.length) await introduce(); // before any key is a judgment
  drawChoices();
  explainKeys(isPair(), state.fields.length > 0);
  const judgeKey = (at, worst) =>
    at < item.responses.length && (isPair() ? guarded(() => judge(at, 1 - at)) : pick(worst ? "worst" : "best", at));
  listen({ at: judgeKey, tie, save: () => !isPair() && save(), step });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("review").addEventListener("click", () => guarded(() => show(0)));
  document.addEventListener("visibilitychange", () => document.hidden || busy || guarded(refresh));
  const unsaved = () => drafts.size > 0 || (byId("status").classList.contains("fault") && busy);
  addEventListener("beforeunload", (event) => unsaved() && event.preventDefault());
  place = -1;
  await forward();
});
