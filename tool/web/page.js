// The page of `pocketrec serve`: a catalogue, the session, what may come next, and what is known of its user.

const TOP = 8; // recommendations
const SHOWN = matchMedia("(min-width: 56rem)").matches ? 24 : 8; // items of the catalogue at a time
const NEWEST = 4; // sessions of the journal that are shown
const ENOUGH = 4; // next clicks; with fewer a network learns nothing

/** @param {string} id @returns {any} */
const at = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");

/** @type {import("./pocketrec.js").Model} */
let model;
/** @type {string[]} ids in the order in which they were chosen */
let chosen = [];
/** @type {Map<string, number>} what was recommended before the model learned: id -> place */
let before = new Map();
let order = /** @type {number[]} */ ([]); // codes, most clicked first
let limit = SHOWN, waiting = 0;
let last = Promise.resolve();

/** @param {string} tag @param {object} [properties] @param {(Node | string)[]} children */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A disc whose colour stands for an id. @param {string} id */
function swatch(id) {
  let hue = 0;
  for (const letter of id) hue = (hue * 31 + letter.charCodeAt(0)) >>> 0;
  const disc = make("span", { className: "swatch" });
  disc.style.setProperty("--hue", String((hue * 137) % 360));
  disc.setAttribute("aria-hidden", "true");
  return disc;
}

/** @param {string} title @param {unknown} error */
function notice(title, error) {
  const message = error instanceof Error ? error.message : String(error);
  at("notice").replaceChildren(
    make("div", { className: "notice" }, make("h2", { textContent: title }), make("p", { textContent: message })));
}

/** Do something when everything before it is done. @param {string} title of a fault @param {() => Promise<void>} work */
function act(title, work) {
  waiting++;
  at("main").setAttribute("aria-busy", "true");
  last = last.then(async () => {
    try {
      at("notice").replaceChildren();
      await work();
    } catch (error) {
      notice(title, error);
    }
    at("main").setAttribute("aria-busy", String(--waiting > 0));
    drawButtons();
  });
  return last;
}

/** @param {HTMLButtonElement} button @param {boolean} usable A button that cannot be used keeps the focus that it has. */
function enable(button, usable) {
  button.setAttribute("aria-disabled", String(!usable));
}

function drawButtons() {
  if (!model) return;
  enable(at("observe"), chosen.length > 0);
  enable(at("drop"), chosen.length > 0);
  enable(at("learn"), model.journal.observed > 0);
  enable(at("forget"), model.journal.observed > 0 || model.learned !== undefined || model.fault !== undefined);
}

function drawCatalogue() {
  const wanted = at("find").value.trim().toLowerCase();
  const found = order.filter((code) => model.file.ids[code].toLowerCase().includes(wanted));
  at("catalogue").replaceChildren(...found.slice(0, limit).map((code) => {
    const id = model.file.ids[code];
    const button = make("button", { type: "button" }, swatch(id), make("span", { className: "name", textContent: id }));
    button.dataset.id = id;
    return make("li", {}, button);
  }));
  markChosen();
  const shown = Math.min(found.length, limit);
  at("shown").textContent = found.length
    ? `${number.format(shown)} of ${number.format(found.length)} items, most clicked first.`
    : "No item has such an id.";
  at("more").hidden = found.length <= limit;
}

/** Items in their order. @param {string[]} ids */
const chips = (ids) => ids.map((id) => make("li", {}, swatch(id), make("span", { textContent: id })));

function drawChosen() {
  at("clicks").replaceChildren(...chips(chosen));
  at("empty").hidden = chosen.length > 0;
  markChosen();
  drawButtons();
}

function markChosen() {
  for (const button of at("catalogue").querySelectorAll("button")) {
    const is = chosen.includes(button.dataset.id);
    button.classList.toggle("chosen", is);
    button.querySelector(".hidden")?.remove();
    if (is) button.append(make("span", { className: "hidden", textContent: ", chosen" }));
  }
}

/** Ask for recommendations and show them. @param {string} [said] what a screen reader says before it names them */
async function drawNext(said = "") {
  const best = chosen.length ? await model.recommend(chosen, { top: Math.min(TOP, model.k) }) : [];
  at("waiting").hidden = best.length > 0;
  at("best").replaceChildren(...best.map(({ id, score }, place) => {
    const button = make("button", { type: "button" },
      make("span", { className: "rank", textContent: String(place + 1) }), swatch(id),
      make("span", { className: "name", textContent: id }), moved(id, place));
    button.dataset.id = id;
    const bar = make("span", { className: "bar" });
    bar.setAttribute("aria-hidden", "true");
    const top = best[0].score; // of a network scores are logits, of kept sessions sums
    bar.style.setProperty("--share", String(model.file.kind === "gru4rec" ? Math.exp(score - top) : score / top));
    button.append(bar);
    return make("li", {}, button);
  }));
  const names = best.slice(0, 3).map(({ id }) => id).join(", ");
  at("status").textContent = `${said} ${best.length ? `Next may come ${names}.` : "Nothing is chosen."}`.trim();
}

/** How an item has moved since the model has learned. @param {string} id @param {number} place */
function moved(id, place) {
  const mark = make("span", { className: "moved" }), old = before.get(id);
  if (before.size && old !== place) {
    const up = old === undefined || old > place;
    const by = Math.abs((old ?? place) - place);
    const words = old === undefined ? "new" : `${up ? "up" : "down"} ${by}`;
    mark.classList.toggle("up", up);
    const seen = make("span", { textContent: words.replace("up", "\u2191").replace("down", "\u2193") });
    seen.setAttribute("aria-hidden", "true");
    mark.append(seen, make("span", { className: "hidden", textContent: `, ${words}` }));
  }
  return mark;
}

/** What is kept and learned. */
function drawMemory() {
  const { sessions } = model.journal, clicks = sessions.reduce((sum, one) => sum + one.length, 0);
  at("kept").textContent = sessions.length
    ? `${count(sessions.length, "session")} with ${count(clicks, "click")}, kept in this browser` +
      `${sessions.length > NEWEST ? `. The newest ${NEWEST}:` : ":"}`
    : "Nothing: no session is kept in this browser.";
  at("sessions").replaceChildren(...sessions.slice(-NEWEST).reverse().map((ids) =>
    make("li", {}, make("ol", { className: "chips" }, ...chips(ids)))));
  at("learned").textContent = model.fault ? "What is kept here cannot be used. Forget it, or let it learn again."
    : model.learned ? wordsOf(model.learned)
    : sessions.length ? "It has not learned from them: it is as it came." : "";
  at("when").textContent = model.learned?.saved.toLocaleString("en", { dateStyle: "long", timeStyle: "short" }) ?? "";
}

/** @param {number} many @param {string} what */
const count = (many, what) => `${number.format(many)} ${what}${many === 1 ? "" : "s"}`;

/** What came of learning, and why. @param {import("./pocketrec.js").Learned} learned */
function wordsOf({ kept, cached, transitions, before, after }) {
  if (model.file.kind === "neighbours") {
    return kept ? "It has learned: your sessions are among those that it looks at, with their new items."
      : "It is as it came: no session here has two clicks.";
  }
  if (before === undefined || after === undefined) {
    return "It is as it came: there is too little to see whether learning helps, " +
      `${count(transitions, "next click")} of ${ENOUGH} at least.`;
  }
  const newest = `the newest of your ${number.format(transitions)} next clicks`, loss = before.toFixed(2);
  if (!kept && !cached) {
    return `It is as it came: what it learned from the others did not help to predict ${newest} (loss ${loss}).`;
  }
  const what = [kept && "its weights have changed", cached && "it looks up what came next in moments like this one"];
  const helped = kept ? ` Learned from the others, this predicts ${newest}: loss ${loss} before, ${after.toFixed(2)} after.` : "";
  return `It has learned: ${what.filter(Boolean).join(", and ")}.${helped}`;
}

/** @param {string} id */
async function choose(id) {
  chosen = [...chosen, id];
  before = new Map();
  drawChosen();
  await drawNext(`${id} is chosen.`);
}

/** The session is over. @param {string} said */
async function clear(said) {
  chosen = [];
  before = new Map();
  drawChosen();
  await drawNext(said);
}

async function observe() {
  await model.observe(chosen);
  drawMemory();
  await clear(`The session is kept: ${count(model.journal.sessions.length, "session")}.`);
}

async function learn() {
  const shown = [...at("best").querySelectorAll("button")].map((button) => button.dataset.id);
  at("status").textContent = at("learned").textContent = "It learns.";
  await model.learn().finally(drawMemory);
  before = new Map(shown.map((id, place) => [id, place]));
  await drawNext(at("learned").textContent);
}

async function forget() {
  await model.forget().finally(drawMemory);
  before = new Map();
  await drawNext("It has forgotten you.");
}

async function begin() {
  const { load } = await import("./pocketrec.js"); // here, so that a fault in it is shown
  model = await load("model.bin");
  const { ids, support } = model.file;
  order = ids.map((_, code) => code).sort((one, other) => support[other] - support[one]);
  const what = model.file.kind === "gru4rec" ? `weights as ${model.file.settings.storage}`
    : count(model.file.sessions.lengths.length, "kept session");
  at("facts").textContent = `${number.format(ids.length)} items, ${what}`;
  at("observe").hidden = at("memory").hidden = !model.learns;
  if (!model.learns) at("learns").textContent = "It is of an earlier pocketrec, and does not learn.";
  if (model.fault) notice("What is kept here cannot be used", model.fault);
  drawMemory();
  drawCatalogue();
  drawChosen();
  at("app").hidden = false;
  await drawNext();
}

/** @param {string} id @param {(event: any) => unknown} work */
const onClick = (id, work) => at(id).addEventListener("click", (/** @type {Event} */ event) => {
  const button = /** @type {HTMLElement} */ (event.target).closest("button");
  if (button && button.getAttribute("aria-disabled") !== "true") work(button);
});

for (const list of ["catalogue", "best"]) {
  onClick(list, (button) => act("It cannot recommend", async () => {
    await choose(button.dataset.id);
    if (list === "best") at("best").querySelector("button")?.focus(); // the button that had the focus is gone
  }));
}
onClick("observe", () => act("It cannot keep the session", observe));
onClick("drop", () => act("It cannot drop the session", () => clear("The session is dropped.")));
onClick("learn", () => act("It cannot learn", learn));
onClick("forget", () => act("It cannot forget", forget));
onClick("more", () => {
  const first = at("catalogue").children.length;
  limit += SHOWN;
  drawCatalogue();
  at("catalogue").children[first]?.querySelector("button").focus();
});
at("find").addEventListener("input", () => {
  limit = SHOWN;
  drawCatalogue();
});

act("The page cannot begin", begin).then(() => {
  if (at("app").hidden) at("facts").textContent = "";
  document.body.dataset.ready = String(!at("app").hidden); // for tests
});
