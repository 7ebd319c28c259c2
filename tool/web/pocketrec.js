/**
 * A GRU4Rec of `pocketrec export` in a browser: it recommends, learns, and keeps what it has learned.
 *
 *     import { load } from "pocketrec";
 *
 *     const model = await load("gru4rec_bs512.tflite");
 *     await model.restore();                                    // what was learned before, if anything
 *     await model.recommend(clicked, { top: 5, exclude: clicked });
 *     await model.learn(clicked);
 *     await model.save();
 *
 * Needs `@litertjs/core` 2.5.2 or later, whose WebAssembly runs it: on a GPU a model cannot have variables.
 */

import { getGlobalLiteRtPromise, loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { PocketrecError, readModelFile } from "./model_file.js";
import { find, keep, remove } from "./store.js";

export { PocketrecError };

/** @typedef {Record<string, Float32Array | Int32Array>} Tensors arrays by name */
/** @typedef {{id: string, score: number}} Recommendation an item, and its score (a logit: higher is better) */

const LAST_STEP = 2 ** 31 - 2; // the largest count of steps after which there can be another
const BUSY = 12; // milliseconds that a page may stand still while it learns

/**
 * Load a model.
 * @param {string | URL | Uint8Array} source where the .tflite is, or its bytes.
 * @param {object} [options]
 * @param {string} [options.wasm] the folder `wasm/` of `@litertjs/core`, as an address; by default beside the module. A
 *   bundler needs it. Without effect if LiteRT has been started before.
 * @param {string} [options.database] the IndexedDB that `save` writes into.
 * @param {string} [options.name] of the record there: one for each model or user of the app.
 * @returns {Promise<Model>}
 * @throws {PocketrecError} the file or the runtime is missing, or the file is damaged or of another kind.
 */
export async function load(source, { wasm, database = "pocketrec", name = "user" } = {}) {
  const bytes = source instanceof Uint8Array ? source : await download(source);
  const file = readModelFile(bytes);
  await start(wasm);
  const model = new Model(bytes, file, database, name);
  await model._open();
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

/** A loaded model. Calls may overlap: each waits for those before it. */
export class Model {
  /** @type {import("@litertjs/core").CompiledModel | undefined} */
  #compiled;
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  /** @type {Map<string, number>} */
  #codes;
  #bytes;
  #database;
  #name;

  /** Made by `load`. @param {Uint8Array} bytes @param {import("./model_file.js").ModelFile} file
   * @param {string} database @param {string} name */
  constructor(bytes, file, database, name) {
    this.#bytes = bytes;
    this.#database = database;
    this.#name = name;
    this.#codes = new Map(file.ids.map((id, code) => [id, code]));
    /** Settings, items and version, as the file says them. */
    this.file = file;
    /** Whether it can learn; a model of int8 cannot. */
    this.trainable = file.settings.storage !== "int8";
    /** The most items that `recommend` gives. */
    this.k = Math.min(file.settings.top_k, file.settings.n_items);
  }

  /** @internal */
  async _open() {
    const compiled = await loadAndCompile(this.#bytes, { accelerator: "wasm" }).catch((error) => {
      throw new PocketrecError(`LiteRT.js cannot run the model: ${error?.message ?? error}`, {
        expected: "@litertjs/core 2.5.2 or later, and memory for the model", todo: "npm install @litertjs/core",
        cause: error,
      });
    });
    const needed = ["recommend", "infer", "save", ...(this.trainable ? ["train_one", "restore"] : [])];
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
   * @param {Iterable<unknown>} [options.exclude] ids that are left out, such as those that were clicked.
   * @param {Iterable<unknown>} [options.allow] the only ids that there may be; there may be fewer than `top` then.
   * @returns {Promise<Recommendation[]>}
   * @throws {PocketrecError} the model knows none of the ids, or cannot give so many.
   */
  recommend(ids, { top = this.k, exclude = [], allow } = {}) {
    const clicked = [...ids], out = [...exclude], only = allow && [...allow]; // as they are now, not when its turn comes
    return this.#alone(async () => {
      if (!Number.isInteger(top) || top < 1 || top > this.k) {
        throw new PocketrecError(`${top} items are asked for.`, { expected: `1 to ${this.k}, fixed when it was exported` });
      }
      const wanted = new Uint8Array(this.file.ids.length).fill(only ? 0 : 1);
      for (const code of this.#known(only ?? [])) wanted[code] = 1;
      for (const code of this.#known(out)) wanted[code] = 0;
      const codes = this.#codesOf(clicked);
      let found = /** @type {Tensors} */ ({}), before = this.#freshState(), state = before;
      for (const code of codes) {
        before = state;
        found = await this.#run("recommend", { feat: Int32Array.of(code), initstate: before });
        this.#checkItems(found);
        state = /** @type {Float32Array} */ (found.state);
      }
      let best = Array.from(found.items, (code, place) => ({ code, score: found.scores[place] }));
      if (best.filter(({ code }) => wanted[code]).length < Math.min(top, wanted.reduce((sum, one) => sum + one, 0))) {
        best = await this.#allScores(codes[codes.length - 1], before, best[0]); // the graph gives too few
      }
      best = best.filter(({ code }) => wanted[code]).slice(0, top);
      return best.map(({ code, score }) => ({ id: this.file.ids[code], score }));
    });
  }

  /**
   * Learn from what was clicked, one step for each click but the last. It is kept when it is saved.
   * @param {Iterable<unknown>} ids in order; ids that the model does not know are skipped.
   * @returns {Promise<number[]>} the loss of each step before it was made, in nats.
   * @throws {PocketrecError} the model cannot learn, knows none of the ids, or has numbers that are not finite.
   */
  learn(ids) {
    const clicked = [...ids];
    return this.#alone(async () => {
      this.#checkTrainable();
      const codes = this.#codesOf(clicked), losses = [];
      let state = this.#freshState(), since = performance.now();
      for (let step = 0; step + 1 < codes.length; step++) {
        const [feat, target] = [codes[step], codes[step + 1]].map((code) => Int32Array.of(code));
        const found = await this.#run("train_one", { feat, target, initstate: state });
        const loss = found.loss[0];
        state = /** @type {Float32Array} */ (found.state);
        if (!Number.isFinite(loss) || !state.every(Number.isFinite)) throw notFinite(`The loss of a step is ${loss}.`);
        losses.push(loss);
        if (performance.now() - since > BUSY) {
          await pause();
          since = performance.now();
        }
      }
      return losses;
    });
  }

  /**
   * Keep what was learned in IndexedDB, in one transaction: what was kept before is replaced whole, or stays.
   * @param {unknown} [about] what the app wants to keep with it, such as the clicks: anything that can be cloned.
   * @returns {Promise<{steps: number}>} how many steps the model has learned in all.
   * @throws {PocketrecError} it has numbers that are not finite, the browser cannot keep it, or what is there under the
   *   same name was learned by another model.
   */
  save(about) {
    return this.#alone(async () => {
      this.#checkTrainable();
      const tensors = await this.#run("save", { zero: new Int32Array(1) });
      checkTensors(tensors, "The model");
      const record = { ...this.#own(), tensors, saved: new Date(), about };
      await keep(this.#database, this.#name, record, (there) => there && this.#checkOwn(there));
      return { steps: tensors.step[0] };
    });
  }

  /**
   * Go on from what `save` kept, bit for bit.
   * @returns {Promise<{steps: number, saved: Date, about: any} | undefined>} undefined where nothing was kept.
   * @throws {PocketrecError} it was learned by another model, or is damaged; the model stays as it is.
   */
  restore() {
    return this.#alone(async () => {
      const record = await find(this.#database, this.#name);
      if (!record) return undefined;
      this.#checkOwn(record);
      this.#checkTrainable();
      const tensors = record.tensors ?? {};
      for (const { name, shape, dtype } of this.#signature("restore").getInputDetails()) {
        const size = [...shape].reduce((product, length) => product * length, 1);
        const kind = dtype === "int32" ? Int32Array : Float32Array;
        if (!(tensors[name] instanceof kind) || tensors[name].length !== size) {
          throw new PocketrecError(`The tensor ${name} that was kept is damaged.`, {
            expected: `${size} numbers of ${dtype}`, todo: "forget what was kept",
          });
        }
      }
      checkTensors(tensors, "What was kept");
      const { step } = await this.#run("restore", tensors);
      if (step[0] !== tensors.step[0]) throw notFinite("LiteRT did not take what was kept.");
      return { steps: step[0], saved: record.saved, about: record.about };
    });
  }

  /** Remove what was kept, also if it belongs to another model, and go back to what the file holds. */
  forget() {
    return this.#alone(async () => {
      await remove(this.#database, this.#name);
      if (this.trainable) await this._open();
    });
  }

  /** Run something when everything before it is done. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #alone(work) {
    const turn = this.#last.then(() => {
      if (!this.#compiled) throw new PocketrecError("The model is closed.", { expected: "calls before close()" });
      return work();
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  /** @param {string} name */
  #signature(name) {
    return /** @type {import("@litertjs/core").CompiledModel} */ (this.#compiled).signatures[name];
  }

  /**
   * Copies of the outputs of a signature. Tensors are freed by hand: LiteRT.js does not.
   * @param {string} name @param {Tensors} given @returns {Promise<Tensors>}
   */
  async #run(name, given) {
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

  /** All items, best first: the graph's `recommend` has too few. Their probabilities lack a constant, which one score says.
   * @param {number} code @param {Float32Array} state @param {{code: number, score: number}} best */
  async #allScores(code, state, best) {
    const lanes = this.file.settings.batch_size, states = new Float32Array(lanes * state.length);
    for (let lane = 0; lane < lanes; lane++) states.set(state, lane * state.length);
    const { output } = await this.#run("infer", { feat: new Int32Array(lanes).fill(code), initstate: states });
    const shares = output.subarray(0, this.file.ids.length), own = Math.log(shares[best.code]);
    const found = Array.from(shares, (share, item) => ({ code: item, share, score: Math.log(share) - own + best.score }));
    return found.sort((one, other) => other.share - one.share);
  }

  /** @param {Tensors} found */
  #checkItems({ items, scores, state }) {
    const whole = items.length === this.k && items.every((code) => code >= 0 && code < this.file.ids.length);
    if (!whole || !scores.every(Number.isFinite) || !state.every(Number.isFinite)) {
      throw notFinite("What the model recommends are not items.");
    }
  }

  #checkTrainable() {
    if (!this.trainable) {
      throw new PocketrecError("This model cannot learn: its weights are stored as int8.", {
        expected: "a model that can", todo: "pocketrec export --weights float32 (or float16)",
      });
    }
  }

  #own() {
    const { items, settings } = this.file;
    return { items, settings: JSON.stringify(settings, Object.keys(settings).sort()) };
  }

  /** @param {import("./store.js").Learned} record */
  #checkOwn(record) {
    const own = this.#own();
    for (const name of /** @type {const} */ (["items", "settings"])) {
      if (record[name] !== own[name]) {
        throw new PocketrecError(`What was kept belongs to another model: its ${name} are ${record[name]}.`, {
          expected: `the ${name} of this model: ${own[name]}`,
          todo: "forget it, or load this model with another `name`",
        });
      }
    }
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

/** @param {string} wrong */
function notFinite(wrong) {
  return new PocketrecError(wrong, {
    expected: "finite numbers", todo: "restore() what was kept before, or forget() it; nothing was saved",
  });
}

/** @param {Tensors} tensors @param {string} what */
function checkTensors(tensors, what) {
  const wrong = Object.keys(tensors).find((name) => !tensors[name].every(Number.isFinite));
  if (wrong) throw notFinite(`${what} has numbers in ${wrong} that are not finite.`);
  const step = tensors.step?.[0];
  if (!(step >= 0 && step <= LAST_STEP)) throw notFinite(`${what} has the count of steps ${step}.`);
}

/** Let the page draw and hear. @returns {Promise<void>} */
function pause() {
  const scheduler = /** @type {any} */ (globalThis).scheduler;
  return scheduler?.yield ? scheduler.yield() : new Promise((resolve) => setTimeout(resolve));
}
