/**
 * A GRU4Rec of `pocketrec export` and its user, in a browser: it recommends, keeps what was clicked, and learns from it.
 *
 *     import { load } from "pocketrec";
 *
 *     const model = await load("gru4rec_bs512.tflite");
 *     await model.recommend(clicked, { top: 5 });               // the session so far
 *     await model.observe(clicked);                             // a session that has ended: into the journal
 *     await model.learn();                                      // now and then
 *
 * What belongs to the user is in IndexedDB: the journal, which is the newest sessions, and what was learned of them.
 * `learn` always begins with the weights of the file, so what a model knows of its user depends on nothing but the file and
 * the journal. The same in Python is `OnDeviceModel`.
 *
 * Needs `@litertjs/core` 2.5.2 or later, whose WebAssembly runs it: on a GPU a model cannot have variables.
 */

import { getGlobalLiteRtPromise, loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { faultOfUse, PocketrecError, readModelFile } from "./model_file.js";
import { added, checkJournal, find, newerThan, remove, write } from "./store.js";

export { PocketrecError };

/** @typedef {Record<string, Float32Array | Int32Array>} Tensors arrays by name */
/** @typedef {{id: string, score: number}} Recommendation an item, and its score (a logit: higher is better) */
/** @typedef {{code: number, score: number}} Scored */

/**
 * @typedef {object} Learned what came of `learn`.
 * @property {boolean} kept whether the weights have learned; otherwise they are those that were shipped.
 * @property {boolean} cached whether the state cache has its share in recommendations.
 * @property {number} transitions pairs of an item and the next one in the journal.
 * @property {number} [before] mean loss of the transitions that were held out with the weights as shipped, in nats; with the
 *   state cache if that is kept. If any were held out.
 * @property {number} [after] the same with the weights that are kept, as far as they were learned of the others.
 * @property {Date} saved when.
 */

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

/**
 * Load a model.
 * @param {string | URL | Uint8Array} source where the .tflite is, or its bytes.
 * @param {object} [options]
 * @param {string} [options.wasm] the folder `wasm/` of `@litertjs/core`, as an address; by default beside the module. A
 *   bundler needs it. Without effect if LiteRT has been started before.
 * @param {string} [options.database] the IndexedDB of what belongs to the user.
 * @param {string} [options.name] of the records there: one for each user of the app.
 * @param {Partial<import("./model_file.js").Use>} [options.use] how it is used for its user, where not as the file says.
 * @returns {Promise<Model>}
 * @throws {PocketrecError} the file or the runtime is missing, or the file is damaged or of another kind. What belongs to
 *   the user and cannot be used is no error: see `fault`.
 */
export async function load(source, { wasm, database = "pocketrec", name = "user", use = {} } = {}) {
  const bytes = source instanceof Uint8Array ? source : await download(source);
  const file = readModelFile(bytes), chosen = { ...file.use, ...use }, wrong = faultOfUse(chosen);
  if (wrong) throw new PocketrecError(`Of \`use\`, ${wrong}.`, { expected: `such values as ${JSON.stringify(file.use)}` });
  await start(wasm);
  const model = new Model(bytes, file, chosen, database, name);
  await model._resume();
  return model;
}

/** @param {string | URL} url */
async function download(url) {
  let why;
  try {
    const response = await fetch(url);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    why = `${response.status} ${response.statusText}`;
  } catch (error) {
    why = error;
  }
  throw new PocketrecError(`The model ${url} cannot be loaded: ${why}`, {
    expected: "a .tflite of `pocketrec export` there", todo: "check the address and the connection",
  });
}

/** @param {string} [wasm] */
async function start(wasm) {
  try {
    await (getGlobalLiteRtPromise() ?? loadLiteRt(wasm ?? new URL("../wasm/", import.meta.resolve("@litertjs/core")).href));
  } catch (error) {
    throw new PocketrecError(`LiteRT.js does not start: ${error instanceof Error ? error.message : "a file is missing"}`, {
      expected: "the files of the folder wasm/ of @litertjs/core, 2.5.2 or later", todo: "npm install @litertjs/core",
      cause: error,
    });
  }
}

/** A loaded model and its user. Calls may overlap: each waits for those before it. */
export class Model {
  /** @type {import("@litertjs/core").CompiledModel | undefined} */
  #compiled;
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  #since = 0; // when the page could last draw and hear
  /** @type {Map<string, number>} */
  #codes;
  /** @type {Cache} */
  #cache;
  #bytes;
  #database;
  #name;

  /** Made by `load`. @param {Uint8Array} bytes @param {import("./model_file.js").ModelFile} file
   * @param {import("./model_file.js").Use} use @param {string} database @param {string} name */
  constructor(bytes, file, use, database, name) {
    this.#bytes = bytes;
    this.#database = database;
    this.#name = name;
    this.#codes = new Map(file.ids.map((id, code) => [id, code]));
    /** Settings, items and version, as the file says them. */
    this.file = file;
    /** How it is used for its user. */
    this.use = Object.freeze(use);
    /** Whether its weights can learn; those of int8 and of files of before cannot. */
    this.trainable = file.learning !== undefined;
    /** The most items that `recommend` gives. */
    this.k = Math.min(file.settings.top_k, file.settings.n_items);
    /** The newest sessions of the user. @type {import("./store.js").Journal} */
    this.journal = checkJournal(undefined);
    /** What came of the last `learn`. Until then the state cache has no share. @type {Learned | undefined} */
    this.learned = undefined;
    /** Why what was kept cannot be used; the model is as it was shipped then. @type {PocketrecError | undefined} */
    this.fault = undefined;
    this.#cache = this.#emptyCache();
  }

  /** Free its memory; it cannot be used any more. */
  close() {
    return this.#alone(async () => {
      this.#compiled?.delete();
      this.#compiled = undefined;
    });
  }

  /**
   * Recommend what may come next, best first.
   * @param {Iterable<unknown>} ids what was clicked so far, in order; ids that the model does not know are skipped.
   * @param {object} [options]
   * @param {number} [options.top] how many; at most `k`, which is also the default.
   * @param {Iterable<unknown>} [options.exclude] ids that are left out, such as what is sold out.
   * @param {Iterable<unknown>} [options.allow] the only ids that there may be; there may be fewer than `top` then.
   * @param {boolean} [options.excludeSeen] whether the items of the session are left out; where sessions go on from each
   *   other (`use.between`), those of the journal, too. As the file says if not given.
   * @returns {Promise<Recommendation[]>}
   * @throws {PocketrecError} the model knows none of the ids, or cannot give so many.
   */
  recommend(ids, { top = this.k, exclude = [], allow, excludeSeen } = {}) {
    const clicked = [...ids], only = allow && [...allow]; // as they are now, not when its turn comes
    let out = [...exclude];
    return this.#alone(async () => {
      if (!Number.isInteger(top) || top < 1 || top > this.k) {
        throw new PocketrecError(`${top} items are asked for.`, { expected: `1 to ${this.k}, fixed when it was exported` });
      }
      const codes = this.#codesOf(clicked), last = codes[codes.length - 1];
      if (excludeSeen ?? this.use.seen === "hide") {
        out = out.concat(clicked, this.#carries ? this.journal.sessions.flat() : []);
      }
      const wanted = new Uint8Array(this.file.ids.length).fill(only ? 0 : 1);
      for (const code of this.#known(only ?? [])) wanted[code] = 1;
      for (const code of this.#known(out)) wanted[code] = 0;
      const states = await this.#walk(codes.slice(0, -1), this.#begin), state = states[states.length - 1];
      const fits = (/** @type {Scored} */ { code, score }) => wanted[code] && score > HIDDEN / 2;
      let best = (await this.#best(last, state, wanted)).filter(fits);
      if (best.length < Math.min(top, wanted.reduce((sum, one) => sum + one, 0))) { // the graph gives too few
        best = (await this.#allScores(last, state)).filter(fits);
      }
      return best.slice(0, top).map(({ code, score }) => ({ id: this.file.ids[code], score }));
    });
  }

  /**
   * Keep a session of the user that has ended, in the journal and in the state cache.
   * @param {Iterable<unknown>} ids what was clicked, in order. The model need not know them: one for another catalogue may.
   * @returns {Promise<void>}
   * @throws {PocketrecError} there are no ids, or the browser cannot keep them; the journal stays as it was.
   */
  observe(ids) {
    const session = Array.from(ids, String);
    return this.#alone(async () => {
      if (!session.length) {
        throw new PocketrecError("The session has no items.", { expected: "the ids that were clicked, in order" });
      }
      const { journal: limit } = this.file.settings, since = this.journal.observed;
      const journal = await write(this.#database, this.#name, "journal",
        (there) => added(checkJournal(there), session, limit));
      if (journal.observed <= since) return this._resume(); // another page has forgotten what this one knew
      this.journal = journal;
      for (const one of newerThan(journal, since)) await this.#remember(this.#known(one));
    });
  }

  /**
   * Learn the journal: the weights of the file, in `use.passes` passes of the signature `learn`, and the state cache; and
   * keep that. What was learned before is replaced. A file of int8 has the state cache alone.
   * @param {object} [options]
   * @param {"better" | "always"} [options.keep] better, the state cache if it predicts the transitions of the journal
   *   better, each by those before it; and the learned weights if they predict the newest quarter of the transitions no
   *   worse, after the others were learned; then the quarter is learned, too. always: both, without looking.
   * @returns {Promise<Learned>}
   * @throws {PocketrecError} the file is of an earlier pocketrec, comes to numbers that are not finite, or the browser
   *   cannot keep what was learned; the model stays as it was.
   */
  learn({ keep = "better" } = {}) {
    return this.#alone(async () => {
      if (!["better", "always"].includes(keep)) {
        throw new PocketrecError(`\`keep\` is ${keep}.`, { expected: "better or always" });
      }
      if (!this.trainable && !this.file.caches) {
        throw new PocketrecError("This model cannot learn: it is of an earlier pocketrec.", {
          expected: "a model of this version", todo: "pocketrec export, with --from the checkpoint that it was made from",
        });
      }
      const journal = checkJournal((await find(this.#database, this.#name)).journal); // other pages may have added to it
      try {
        this.journal = journal;
        this.learned = await this.#learnJournal(keep);
        this.#cache = this.#emptyCache();
        for (const one of this.journal.sessions) await this.#remember(this.#known(one));
        const tensors = this.learned.kept ? await this.#run("save", { zero: new Int32Array(1) }) : {};
        checkTensors(tensors, "The model");
        const record = {
          base: this.file.base, observed: this.journal.observed, learned: this.learned, tensors, cache: this.#cache,
        };
        await write(this.#database, this.#name, "learned", (there) => {
          if (checkJournal(there).observed >= record.observed) return record;
          throw new PocketrecError("Another page has forgotten meanwhile what this one learned from.", {
            expected: "the journal that it began with", todo: "observe() sessions, and learn() again",
          });
        });
        this.fault = undefined;
        return this.learned;
      } catch (error) {
        await this._resume();
        throw error;
      }
    });
  }

  /** Remove all that belongs to the user, also what cannot be used, and go back to the model as it was shipped.
   * @returns {Promise<void>} */
  forget() {
    return this.#alone(async () => {
      await remove(this.#database, this.#name);
      await this._resume();
    });
  }

  /** Go to what was learned last, or to the model as shipped; and go along the sessions that came since. @internal */
  async _resume() {
    await this.#open();
    this.#cache = this.#emptyCache();
    this.journal = checkJournal(undefined);
    this.learned = this.fault = undefined;
    let since = 0;
    try {
      const { journal, learned } = await find(this.#database, this.#name);
      this.journal = checkJournal(journal);
      if (learned?.base === this.file.base) since = await this.#take(learned);
    } catch (error) {
      if (!(error instanceof PocketrecError)) throw error;
      this.fault = error;
    }
    for (const one of newerThan(this.journal, since)) await this.#remember(this.#known(one));
  }

  /** Go on from a record of `learn`, bit for bit.
   * @param {any} record @returns {Promise<number>} how many sessions were observed when it was made. */
  async #take({ observed, learned, tensors, cache }) {
    const { journal, hidden_size: units, n_items: items } = this.file.settings;
    const kinds = [learned?.kept, learned?.cached].every((one) => typeof one === "boolean");
    if (!kinds || (learned.kept && !this.trainable) || !Number.isSafeInteger(observed)) throw damaged("The record");
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

  /** Run something when everything before it is done. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #alone(work) {
    const turn = this.#last.then(() => {
      if (!this.#compiled) throw new PocketrecError("The model is closed.", { expected: "calls before close()" });
      this.#since = performance.now();
      return work();
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** @param {string} name */
  #signature(name) {
    return /** @type {import("@litertjs/core").CompiledModel} */ (this.#compiled).signatures[name];
  }

  /** Let the page draw and hear, if it is time. */
  async #breathe() {
    if (performance.now() - this.#since > BUSY) {
      await pause();
      this.#since = performance.now();
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
    const sessions = this.journal.sessions.map((one) => this.#known(one));
    return this.#carries ? [sessions.flat()] : sessions;
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
    const first = this.#carries && walked[0].some(Boolean) ? 0 : 1;
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

  get #carries() {
    return this.use.between === "carry";
  }

  /** The state before the first item of a session. */
  get #begin() {
    return this.#carries ? this.#cache.cache_state : this.#freshState();
  }

  /** The best items, without as many of those that are not wanted as the graph can hide.
   * @param {number} code @param {Float32Array} state @param {Uint8Array} wanted @returns {Promise<Scored[]>} */
  async #best(code, state, wanted) {
    const inputs = { feat: Int32Array.of(code), initstate: state };
    if (!this.file.caches) return (await this.#recommendations("recommend", inputs)).best;
    const { cache_states, cache_items } = this.#cache, hide = new Int32Array(cache_items.length).fill(-1);
    let place = 0;
    for (let item = 0; item < wanted.length && place < hide.length; item++) if (!wanted[item]) hide[place++] = item;
    const user = { cache_states, cache_items, cache_share: Float32Array.of(this.#share), hide };
    return (await this.#recommendations("recommend_user", { ...inputs, ...user })).best;
  }

  /** All items, best first, by `infer`. Their probabilities lack a constant, which the score of one item says.
   * @param {number} code @param {Float32Array} state @returns {Promise<Scored[]>} */
  async #allScores(code, state) {
    const lanes = this.file.settings.batch_size, states = new Float32Array(lanes * state.length);
    for (let lane = 0; lane < lanes; lane++) states.set(state, lane * state.length);
    const one = await this.#recommendations("recommend", { feat: Int32Array.of(code), initstate: state });
    const { output } = await this.#run("infer", { feat: new Int32Array(lanes).fill(code), initstate: states });
    const shares = output.slice(0, this.file.ids.length), level = one.best[0].score - Math.log(shares[one.best[0].code]);
    this.#mix(shares, one.state);
    const found = Array.from(shares, (share, item) => ({ code: item, share, score: Math.log(share) + level }));
    return found.sort((first, second) => second.share - first.share);
  }

  /** Put a share of what the state cache says into probabilities of all items, as `recommend_user` does.
   * @param {Float32Array | Int32Array} shares @param {Float32Array} state */
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

  /** @param {unknown[]} ids */
  #known(ids) {
    return ids.flatMap((id) => this.#codes.get(String(id)) ?? []);
  }

  /** @param {unknown[]} ids */
  #codesOf(ids) {
    const codes = this.#known(ids);
    if (codes.length) return codes;
    throw new PocketrecError(`The model knows none of the items ${ids.join(", ") || "(there are none)"}.`, {
      expected: `ids of its ${this.file.ids.length} items, ${this.file.ids[0]} for one`,
    });
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
  if (!(found instanceof kind && found.length === size && found.every(fits))) throw damaged(`The tensor ${name}`);
}

/** @param {string} what */
function damaged(what) {
  return new PocketrecError(`${what} that was kept is damaged.`, {
    expected: "what learn() keeps", todo: "learn() the journal again, or forget()",
  });
}

/** Let the page draw and hear. @returns {Promise<void>} */
function pause() {
  const scheduler = /** @type {any} */ (globalThis).scheduler;
  return scheduler?.yield ? scheduler.yield() : new Promise((resolve) => setTimeout(resolve));
}
