/**
 * A GRU4Rec of `pocketrec export` in LiteRT.js; the same in Python is `OnDeviceModel`. `learn` always begins with the weights
 * of the file, so what a model knows of its user depends on nothing but the file and the journal.
 *
 * Needs `@litertjs/core` 2.5.2 or later, whose WebAssembly runs it: on a GPU a model cannot have variables.
 */

import { getGlobalLiteRtPromise, loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { PocketrecError } from "./model_file.js";
import { blended, largest } from "./neighbours.js";
import { damagedRecord, UserModel } from "./user.js";

/** @typedef {Record<string, Float32Array | Int32Array>} Tensors arrays by name */
/** @typedef {import("./user.js").Scored} Scored */
/** @typedef {import("./user.js").Learned} Learned */

/** @typedef {object} Cache the state cache, as `recommend_user` takes it, and where the last session ended.
 * @property {Float32Array} cache_states states of the user's, J x H.
 * @property {Int32Array} cache_items the item that came next, J; -1 for an empty row.
 * @property {Float32Array} cache_state the state after the last session, H. */

const LAST_STEP = 2 ** 31 - 2; // the largest count of steps after which there can be another
const BUSY = 12; // milliseconds that a page may stand still
// The newest transitions are held out to see whether learning helps: one in so many, but at least so many, or half of all.
// Where more are held out, their ranks count like their loss.
const HELD_OUT = 4, LEAST_HELD = 8;
const LEAST_JUDGED = 4; // with fewer transitions nothing is learned, since nobody could say whether it helps
const SHARPNESS = 10; // of the state cache: a state whose cosine with the present one is c has the weight exp(10 (c - 1))
const HIDDEN = -1e30; // is added to the score of a hidden item
const LARGEST_STATE = 1000; // numbers of a state beyond it are refused by the graphs

/** Start LiteRT, if it is not running. @param {string} [wasm] the folder `wasm/` of `@litertjs/core`, as an address. */
export async function start(wasm) {
  try {
    await (getGlobalLiteRtPromise() ?? loadLiteRt(wasm ?? new URL("../wasm/", import.meta.resolve("@litertjs/core")).href));
  } catch (error) {
    throw new PocketrecError(`LiteRT.js does not start: ${error instanceof Error ? error.message : "a file is missing"}`, {
      expected: "the files of the folder wasm/ of @litertjs/core, 2.5.2 or later", todo: "npm install @litertjs/core",
      cause: error,
    });
  }
}

/** A loaded GRU4Rec and its user. */
export class Gru4Rec extends UserModel {
  /** @type {import("@litertjs/core").CompiledModel | undefined} */
  #compiled;
  /** @type {Cache} */
  #cache;
  #bytes;
  #blend;

  /** Made by `load`. @param {Uint8Array} bytes @param {import("./model_file.js").ModelFile} file
   * @param {import("./model_file.js").Use} use @param {string} database @param {string} name
   * @param {{sessions: import("./neighbours.js").WeighedNeighbours, weight: number}} [blend] sessions of the same items */
  constructor(bytes, file, use, database, name, blend) {
    super(file, use, database, name);
    this.#bytes = bytes;
    this.#blend = blend;
    /** Whether its weights can learn; those of int8 and of files of before cannot. */
    this.trainable = file.learning !== undefined;
    this.#cache = this.#emptyCache();
  }

  get learns() {
    return this.trainable || this.file.caches;
  }

  get k() {
    return Math.min(this.file.settings.top_k, this.file.settings.n_items);
  }

  get _limit() {
    return this.file.settings.journal;
  }

  _free() {
    this.#compiled?.delete();
    this.#compiled = undefined;
  }

  /** @param {number[]} codes @param {Uint8Array} wanted @param {number} top */
  async _best(codes, wanted, top) {
    const last = codes[codes.length - 1], states = await this.#walk(codes.slice(0, -1), this.#begin);
    const state = states[states.length - 1];
    if (this.#blend) {
      const { shares, state: after } = await this.#shares(last, state);
      this.#mix(shares, after);
      return largest(blended(shares, this.#blend.sessions.scores(codes), this.#blend.weight), wanted, top);
    }
    const fits = (/** @type {Scored} */ { code, score }) => wanted[code] && score > HIDDEN / 2;
    const best = (await this.#shortlist(last, state, wanted)).filter(fits);
    const enough = best.length >= Math.min(top, wanted.reduce((sum, one) => sum + one, 0));
    return enough ? best : (await this.#allScores(last, state)).filter(fits); // the graph gives too few
  }

  /** @param {string[][]} sessions */
  async _follow(sessions) {
    for (const one of sessions) await this.#remember(this._known(one));
  }

  /** @param {"better" | "always"} keep */
  async _learn(keep) {
    const learned = this.learned = await this.#learnJournal(keep);
    this.#cache = this.#emptyCache();
    await this._follow(this.journal.sessions);
    const tensors = learned.kept ? await this.#run("save", { zero: new Int32Array(1) }) : {};
    checkTensors(tensors, "The model");
    return { learned, tensors, cache: this.#cache };
  }

  async _reset() {
    await this.#open();
    this.#cache = this.#emptyCache();
  }

  /** Go on from a record of `learn`, bit for bit.
   * @param {any} record @returns {Promise<number>} how many sessions were observed when it was made. */
  async _take({ observed, learned, tensors, cache }) {
    const { journal, hidden_size: units, n_items: items } = this.file.settings;
    const kinds = [learned?.kept, learned?.cached].every((one) => typeof one === "boolean");
    if (!kinds || (learned.kept && !this.trainable) || !Number.isSafeInteger(observed)) throw damagedRecord("The record");
    const needed = learned.kept ? this.#signature("restore").getInputDetails() : [];
    for (const { name, shape, dtype } of needed) {
      checkKept(name, tensors?.[name], dtype, [...shape].reduce((product, length) => product * length, 1));
    }
    checkTensors(learned.kept ? tensors : {}, "What was kept");
    const inState = (/** @type {number} */ one) => Math.abs(one) <= LARGEST_STATE;
    checkKept("cache_states", cache?.cache_states, "float32", journal * units, inState);
    checkKept("cache_items", cache.cache_items, "int32", journal, (code) => code >= -1 && code < items);
    checkKept("cache_state", cache.cache_state, "float32", units, inState);
    if (needed.length) await this.#run("restore", tensors);
    this.#cache = cache;
    this.learned = learned;
    return observed;
  }

  /** The file opened anew, without anything that was learned. */
  async #open() {
    const compiled = await loadAndCompile(this.#bytes, { accelerator: "wasm" }).catch((error) => {
      throw new PocketrecError(`LiteRT.js cannot run the model: ${error?.message ?? error}`, {
        expected: "@litertjs/core 2.5.2 or later, and memory for the model", todo: "npm install @litertjs/core",
        cause: error,
      });
    });
    const needed = [
      "recommend", "infer", ...(this.trainable ? ["learn", "save", "restore"] : []),
      ...(this.file.caches ? ["recommend_user"] : []),
    ];
    const lacking = needed.find((name) => !(name in compiled.signatures));
    if (lacking) {
      compiled.delete();
      throw new PocketrecError(`The model has no signature ${lacking}.`, {
        expected: "what its settings say", todo: "export it again, or copy it again",
      });
    }
    this.#compiled?.delete();
    this.#compiled = compiled;
  }

  /** @param {string} name */
  #signature(name) {
    return /** @type {import("@litertjs/core").CompiledModel} */ (this.#compiled).signatures[name];
  }

  /** Let the page draw and hear, if it is time. */
  async #breathe() {
    if (performance.now() - this._since > BUSY) {
      await pause();
      this._since = performance.now();
    }
  }

  /**
   * Copies of the outputs of a signature. Tensors are freed by hand: LiteRT.js does not.
   * @param {string} name @param {Tensors} given @returns {Promise<Tensors>}
   */
  async #run(name, given) {
    await this.#breathe();
    const signature = this.#signature(name), inputs = /** @type {Record<string, Tensor>} */ ({});
    let outputs = /** @type {Record<string, Tensor>} */ ({});
    try {
      for (const { name: key, shape } of signature.getInputDetails()) inputs[key] = new Tensor(given[key], [...shape]);
      outputs = await signature.run(inputs);
      const found = Object.entries(outputs).map(([key, tensor]) => [key, tensor.toTypedArray()]);
      return Object.fromEntries(found);
    } catch (error) {
      throw new PocketrecError(`LiteRT.js cannot run ${name}: ${error instanceof Error ? error.message : error}`, {
        expected: "@litertjs/core 2.5.2 or later, and memory for the model", todo: "load the page again", cause: error,
      });
    } finally {
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
    }
  }

  /** The item codes of what the model sees as one sequence each: a session, or the whole journal. */
  #sequences() {
    const sessions = this.journal.sessions.map((one) => this._known(one));
    return this._carries ? [sessions.flat()] : sessions;
  }

  /** @param {"better" | "always"} keep @returns {Promise<Learned>} */
  async #learnJournal(keep) {
    const sequences = this.#sequences(), saved = new Date();
    const transitions = sequences.reduce((sum, codes) => sum + Math.max(codes.length - 1, 0), 0);
    const all = keep === "always" && transitions > 0;
    let choice = { kept: all && this.trainable, cached: all && this.file.caches }, losses = {};
    await this.#open();
    if (keep === "better" && transitions >= LEAST_JUDGED) {
      const shipped = await this.#judge(sequences, 0);
      const cached = this.file.caches && mean(shipped.mixed) <= mean(shipped.plain), by = cached ? "mixed" : "plain";
      const held = Math.min(Math.max(Math.floor(transitions / HELD_OUT), LEAST_HELD), Math.floor(transitions / 2));
      const before = mean(shipped[by].slice(-held));
      if (Number.isNaN(before)) throw notFinite("The loss of what was held out is NaN.");
      let kept = false, after = before;
      if (this.trainable) {
        await this.#learnAll(sequences, transitions - held);
        const learned = await this.#judge(sequences, transitions - held), found = mean(learned[by]);
        kept = found <= before // not so for NaN
          && (held <= LEAST_HELD || mean(learned.ranks) >= mean(shipped.ranks.slice(-held)));
        if (kept) after = found;
        await this.#open();
      }
      [choice, losses] = [{ kept, cached }, { before, after }];
    }
    if (choice.kept) await this.#learnAll(sequences, transitions);
    return { ...choice, transitions, ...losses, saved };
  }

  /** Learn the first `end` transitions in all passes. @param {number[][]} sequences @param {number} end */
  async #learnAll(sequences, end) {
    const amounts = Object.entries(this.file.learning ?? {}).map(([name, amount]) => [name, Float32Array.of(amount)]);
    for (let pass = 0; pass < this.use.passes; pass++) {
      let left = end;
      for (const codes of sequences) {
        const steps = Math.min(left, Math.max(codes.length - 1, 0));
        let state = this.#freshState();
        for (let step = 0; step < steps; step++) {
          const [feat, target] = [codes[step], codes[step + 1]].map((code) => Int32Array.of(code));
          const found = await this.#run("learn", { feat, target, initstate: state, ...Object.fromEntries(amounts) });
          state = /** @type {Float32Array} */ (found.state);
          if (!Number.isFinite(found.loss[0])) throw notFinite(`The loss of a step is ${found.loss[0]}.`);
        }
        left -= steps;
      }
    }
  }

  /**
   * How the model predicts the transitions from number `begin` on: the losses without a state cache, and with one of all
   * before each; and the reciprocal ranks without it, 0 beyond the k best.
   * @param {number[][]} sequences @param {number} begin
   */
  async #judge(sequences, begin) {
    const pairs = [], lanes = this.file.settings.batch_size, units = this.file.settings.hidden_size;
    for (const codes of sequences) {
      const states = await this.#walk(codes.slice(0, -1), this.#freshState());
      for (let step = 0; step + 1 < codes.length; step++) {
        pairs.push({ feat: codes[step], target: codes[step + 1], before: states[step], after: states[step + 1] });
      }
    }
    const plain = [], mixed = [], ranks = [], items = this.file.ids.length;
    for (let first = begin; first < pairs.length; first += lanes) {
      const some = pairs.slice(first, first + lanes);
      const feat = new Int32Array(lanes), initstate = new Float32Array(lanes * units);
      some.forEach(({ feat: code, before }, lane) => {
        feat[lane] = code;
        initstate.set(before, lane * units);
      });
      const { output } = await this.#run("infer", { feat, initstate });
      for (const [lane, { target, after }] of some.entries()) {
        await this.#breathe();
        const shares = output.subarray(lane * items, (lane + 1) * items), own = shares[target];
        let rank = 0;
        for (const share of shares) if (share >= own) rank++;
        ranks.push(rank <= this.k ? 1 / rank : 0);
        const known = pairs.slice(0, first + lane);
        const weights = cacheWeights(known.map((one) => one.after), after), part = known.length ? this.use.cache_share : 0;
        const given = known.reduce((sum, one, place) => one.target === target ? sum + weights[place] : sum, 0);
        plain.push(-Math.log(own));
        mixed.push(-Math.log((1 - part) * own + part * given));
      }
    }
    return { plain, mixed, ranks };
  }

  /** The state that is given, and that after each item. @param {number[]} codes @param {Float32Array} state */
  async #walk(codes, state) {
    const states = [state];
    for (const code of codes) {
      const initstate = states[states.length - 1];
      states.push((await this.#recommendations("recommend", { feat: Int32Array.of(code), initstate })).state);
    }
    return states;
  }

  /** @returns {Cache} */
  #emptyCache() {
    const { journal, hidden_size: units } = this.file.settings;
    return {
      cache_states: new Float32Array(journal * units), cache_items: new Int32Array(journal).fill(-1),
      cache_state: this.#freshState(),
    };
  }

  /** Go along a session: each state of it and the item that came next go into the cache, where the oldest leave it.
   * @param {number[]} codes */
  async #remember(codes) {
    if (!codes.length) return;
    const { cache_states: states, cache_items: items } = this.#cache, units = this.file.settings.hidden_size;
    const walked = await this.#walk(codes, this.#begin);
    // The state before the first item says nothing of it, unless it is that of earlier sessions.
    const first = this._carries && walked[0].some(Boolean) ? 0 : 1;
    const rows = Math.min(codes.length - first, items.length), from = codes.length - rows, place = items.length - rows;
    states.copyWithin(0, rows * units);
    items.copyWithin(0, rows);
    for (let row = 0; row < rows; row++) {
      states.set(walked[from + row], (place + row) * units);
      items[place + row] = codes[from + row];
    }
    this.#cache.cache_state = walked[walked.length - 1];
  }

  /** Of the state cache in a recommendation. */
  get #share() {
    return this.learned?.cached && this.#cache.cache_items.some((code) => code >= 0) ? this.use.cache_share : 0;
  }

  /** The state before the first item of a session. */
  get #begin() {
    return this._carries ? this.#cache.cache_state : this.#freshState();
  }

  /** The best items, without as many of those that are not wanted as the graph can hide.
   * @param {number} code @param {Float32Array} state @param {Uint8Array} wanted @returns {Promise<Scored[]>} */
  async #shortlist(code, state, wanted) {
    const inputs = { feat: Int32Array.of(code), initstate: state };
    if (!this.file.caches) return (await this.#recommendations("recommend", inputs)).best;
    const { cache_states, cache_items } = this.#cache, hide = new Int32Array(cache_items.length).fill(-1);
    let place = 0;
    for (let item = 0; item < wanted.length && place < hide.length; item++) if (!wanted[item]) hide[place++] = item;
    const user = { cache_states, cache_items, cache_share: Float32Array.of(this.#share), hide };
    return (await this.#recommendations("recommend_user", { ...inputs, ...user })).best;
  }

  /** Probabilities of all items, by `infer`, and what `recommend` says.
   * @param {number} code @param {Float32Array} state */
  async #shares(code, state) {
    const lanes = this.file.settings.batch_size, states = new Float32Array(lanes * state.length);
    for (let lane = 0; lane < lanes; lane++) states.set(state, lane * state.length);
    const one = await this.#recommendations("recommend", { feat: Int32Array.of(code), initstate: state });
    const { output } = await this.#run("infer", { feat: new Int32Array(lanes).fill(code), initstate: states });
    return { ...one, shares: /** @type {Float32Array} */ (output.slice(0, this.file.ids.length)) };
  }

  /** All items, best first. Their probabilities lack a constant, which the score of one item says.
   * @param {number} code @param {Float32Array} state @returns {Promise<Scored[]>} */
  async #allScores(code, state) {
    const { best: [one], shares, state: after } = await this.#shares(code, state);
    const level = one.score - Math.log(shares[one.code]);
    this.#mix(shares, after);
    const found = Array.from(shares, (share, item) => ({ code: item, share, score: Math.log(share) + level }));
    return found.sort((first, second) => second.share - first.share);
  }

  /** Put a share of what the state cache says into probabilities of all items, as `recommend_user` does.
   * @param {Float32Array} shares @param {Float32Array} state */
  #mix(shares, state) {
    const part = this.#share, { cache_states, cache_items } = this.#cache;
    if (!part) return;
    const units = state.length, rows = [...cache_items.keys()].filter((row) => cache_items[row] >= 0);
    const weights = cacheWeights(rows.map((row) => cache_states.subarray(row * units, (row + 1) * units)), state);
    for (let item = 0; item < shares.length; item++) shares[item] *= 1 - part;
    rows.forEach((row, place) => { shares[cache_items[row]] += part * weights[place]; });
  }

  /** What `recommend` or `recommend_user` gives. @param {string} signature @param {Tensors} inputs */
  async #recommendations(signature, inputs) {
    const { items, scores, state } = await this.#run(signature, inputs);
    const whole = items.length === this.k && items.every((code) => code >= 0 && code < this.file.ids.length);
    if (!whole || !scores.every(Number.isFinite) || !state.every(Number.isFinite)) {
      throw notFinite("What the model recommends are not items.");
    }
    const best = Array.from(items, (code, place) => ({ code, score: scores[place] }));
    return { best, state: /** @type {Float32Array} */ (state) };
  }

  /** @returns {Float32Array} */
  #freshState() {
    return new Float32Array(this.file.settings.hidden_size);
  }
}

/** @param {number[]} numbers */
function mean(numbers) {
  return numbers.reduce((one, other) => one + other, 0) / numbers.length;
}

/** How much each of the states of a cache counts for one state; the sum is 1.
 * @param {Float32Array[]} states @param {Float32Array} query */
function cacheWeights(states, query) {
  const dot = (/** @type {Float32Array} */ one, /** @type {Float32Array} */ other) =>
    one.reduce((sum, value, unit) => sum + value * other[unit], 0);
  const length = Math.sqrt(dot(query, query));
  const weights = states.map((state) =>
    Math.exp(SHARPNESS * (dot(state, query) / Math.max(Math.sqrt(dot(state, state)) * length, 1e-15) - 1)));
  const sum = weights.reduce((one, other) => one + other, 0);
  return weights.map((weight) => weight / sum);
}

/** @param {string} wrong */
function notFinite(wrong) {
  return new PocketrecError(wrong, { expected: "finite numbers", todo: "pocketrec verify, with this model" });
}

/** @param {Tensors} tensors @param {string} what */
function checkTensors(tensors, what) {
  const wrong = Object.keys(tensors).find((name) => !tensors[name].every(Number.isFinite));
  if (wrong) throw notFinite(`${what} has numbers in ${wrong} that are not finite.`);
  const step = tensors.step?.[0] ?? 0;
  if (!(step >= 0 && step <= LAST_STEP)) throw notFinite(`${what} has the count of steps ${step}.`);
}

/** @param {string} name @param {any} found @param {string} dtype @param {number} size
 * @param {(value: number) => boolean} fits */
function checkKept(name, found, dtype, size, fits = () => true) {
  const kind = dtype === "int32" ? Int32Array : Float32Array;
  if (!(found instanceof kind && found.length === size && found.every(fits))) throw damagedRecord(`The tensor ${name}`);
}

/** Let the page draw and hear. @returns {Promise<void>} */
function pause() {
  const scheduler = /** @type {any} */ (globalThis).scheduler;
  return scheduler?.yield ? scheduler.yield() : new Promise((resolve) => setTimeout(resolve));
}
