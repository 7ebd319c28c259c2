// The page of `pocketrec serve`: a catalogue, what was chosen, what may come next, and what was learned.

const TOP = 8; // recommendations
const SHOWN = matchMedia("(min-width: 56rem)").matches ? 24 : 8; // items of the catalogue at a time
const PASSES = 20; // at most, over what was chosen, when it is told to learn
const ENOUGH = 0.5; // nats of loss, below which another pass has nothing to teach

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
let steps = 0; // that were learned in this browser; the model may have learned others before
let stale = false; // what is kept here does not fit the model
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
  enable(at("learn"), chosen.length > 1);
  enable(at("fresh"), chosen.length > 0);
  enable(at("forget"), steps > 0 || stale);
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

function drawChosen() {
  at("clicks").replaceChildren(...chosen.map((id) => make("li", {}, swatch(id), make("span", { textContent: id }))));
  at("empty").hidden = chosen.length > 0;
  at("hint").textContent = !model.trainable
    ? "This model only recommends: its weights are stored as int8, with which it cannot learn."
    : chosen.length === 1 ? "It can learn when you have chosen two items or more." : "";
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
  const best = chosen.length ? await model.recommend(chosen, { top: Math.min(TOP, model.k), exclude: chosen }) : [];
  at("waiting").hidden = best.length > 0;
  at("best").replaceChildren(...best.map(({ id, score }, place) => {
    const button = make("button", { type: "button" },
      make("span", { className: "rank", textContent: String(place + 1) }), swatch(id),
      make("span", { className: "name", textContent: id }), moved(id, place));
    button.dataset.id = id;
    const bar = make("span", { className: "bar" });
    bar.setAttribute("aria-hidden", "true");
    bar.style.setProperty("--share", String(Math.exp(score - best[0].score)));
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

/** @param {Date} [saved] @param {string} [more] */
function drawMemory(saved, more = "") {
  const day = saved?.toLocaleString("en", { dateStyle: "long", timeStyle: "short" });
  at("learned").textContent = steps
    ? `${more} ${number.format(steps)} steps in all, kept in this browser${day ? `, the last on ${day}` : ""}.`.trim()
    : stale ? "What is kept here cannot be used. Forget it, and this model can keep what it learns."
    : "Nothing yet: it is as it came.";
}

/** @param {string} id */
async function choose(id) {
  chosen = [...chosen, id];
  before = new Map();
  drawChosen();
  await drawNext(`${id} is chosen.`);
}

async function learn() {
  const shown = [...at("best").querySelectorAll("button")].map((button) => button.dataset.id);
  let first = 0, loss = 0, passes = 0, made = 0;
  at("status").textContent = "It learns.";
  try {
    do {
      at("learned").textContent = `It learns: pass ${passes + 1} of at most ${PASSES}.`;
      const losses = await model.learn(chosen);
      loss = losses.reduce((sum, one) => sum + one, 0) / losses.length;
      if (!passes) first = loss;
      made += losses.length;
    } while (++passes < PASSES && loss > ENOUGH);
    await model.save({ chosen, steps: steps + made });
    steps += made;
  } catch (error) {
    drawMemory();
    throw error;
  }
  const more = `Its loss went from ${first.toFixed(2)} to ${loss.toFixed(2)}: the lower, the better it knows your choice.`;
  drawMemory(new Date(), more);
  before = new Map(shown.map((id, place) => [id, place]));
  await drawNext(`It has learned. ${more}`);
}

async function forget() {
  await model.forget();
  steps = 0;
  stale = false;
  before = new Map();
  drawMemory();
  await drawNext("It has forgotten what it learned.");
}

async function restore() {
  try {
    const kept = await model.restore();
    if (!kept) return;
    steps = kept.about?.steps ?? kept.steps;
    chosen = kept.about?.chosen?.filter((/** @type {string} */ id) => model.file.ids.includes(id)) ?? [];
    drawMemory(kept.saved, "It knows you:");
  } catch (error) {
    stale = true;
    drawMemory();
    notice("What was learned here before cannot be used", error);
  }
}

async function begin() {
  const { load } = await import("./pocketrec.js").catch((error) => {
    throw new Error(`LiteRT.js, or a part of this page, is missing: ${error.message}\n` +
      "Expected: the npm package @litertjs/core, version 2.5.2 or later\n" +
      "To go on: npm install @litertjs/core, then start pocketrec serve again");
  });
  model = await load("model.tflite");
  const { ids, support } = model.file;
  order = ids.map((_, code) => code).sort((one, other) => support[other] - support[one]);
  at("facts").textContent = `${number.format(ids.length)} items, weights as ${model.file.settings.storage}`;
  at("learn").hidden = at("memory").hidden = !model.trainable;
  if (!model.trainable) at("learns").remove();
  drawMemory();
  if (model.trainable) await restore();
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
onClick("learn", () => act("It cannot learn", learn));
onClick("forget", () => act("It cannot forget", forget));
onClick("fresh", () => act("It cannot begin anew", async () => {
  chosen = [];
  before = new Map();
  drawChosen();
  await drawNext();
}));
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
