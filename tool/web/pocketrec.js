/**
 * A model of `pocketrec export` and its user, in a browser: it recommends, keeps what was clicked, and learns from it.
 *
 *     import { load } from "pocketrec";
 *
 *     const model = await load("gru4rec_bs512.tflite");         // or "vstan.safetensors": the file says what it is
 *     await model.recommend(clicked, { top: 5 });               // the session so far
 *     await model.observe(clicked);                             // a session that has ended: into the journal
 *     await model.learn();                                      // now and then
 *
 * What belongs to the user is in IndexedDB: the journal, which is the newest sessions, and what was learned of them. A
 * GRU4Rec (.tflite) needs `@litertjs/core`; kept sessions (.safetensors) need nothing.
 */

import { faultOfUse, PocketrecError, readModelFile } from "./model_file.js";
import { NeighbourModel, WeighedNeighbours } from "./neighbours.js";
import { isSessionFile, readSessionFile } from "./session_file.js";

export { PocketrecError };

/** @typedef {import("./gru4rec.js").Gru4Rec | NeighbourModel} Model */

/**
 * Load a model.
 * @param {string | URL | Uint8Array} source where the file is, or its bytes.
 * @param {object} [options]
 * @param {string} [options.wasm] for a GRU4Rec: the folder `wasm/` of `@litertjs/core`, as an address; by default beside
 *   the module. A bundler needs it. Without effect if LiteRT has been started before.
 * @param {string} [options.database] the IndexedDB of what belongs to the user.
 * @param {string} [options.name] of the records there: one for each user of the app.
 * @param {Partial<import("./model_file.js").Use>} [options.use] how it is used for its user, where not as the file says.
 * @param {string | URL | Uint8Array} [options.blend] for a GRU4Rec: kept sessions of the same items, whose scores are
 *   blended in. They do not learn.
 * @param {number} [options.weight] of these, 0 to 1; `pocketrec evaluate --blend` chooses it.
 * @returns {Promise<Model>}
 * @throws {PocketrecError} the file or the runtime is missing, or the file is damaged or of another kind. What belongs to
 *   the user and cannot be used is no error: see `fault`.
 */
export async function load(source, { wasm, database = "pocketrec", name = "user", use = {}, blend, weight = 0.5 } = {}) {
  const bytes = await bytesOf(source), kept = isSessionFile(bytes);
  const file = kept ? readSessionFile(bytes) : readModelFile(bytes), chosen = { ...file.use, ...use };
  const wrong = faultOfUse(chosen);
  if (wrong) throw new PocketrecError(`Of \`use\`, ${wrong}.`, { expected: `such values as ${JSON.stringify(file.use)}` });
  /** @type {Model} */
  let model;
  if (kept) {
    if (blend !== undefined) throw notBlended("Kept sessions");
    model = new NeighbourModel(file, chosen, database, name);
  } else {
    const more = blend === undefined ? undefined : { sessions: await sessionsFor(file.ids, blend), weight };
    if (!(weight >= 0 && weight <= 1)) throw notBlended(`The weight ${weight}`);
    const { Gru4Rec, start } = await withLiteRt();
    await start(wasm);
    model = new Gru4Rec(bytes, file, chosen, database, name, more);
  }
  await model._resume();
  return model;
}

/** Kept sessions that are blended in. @param {string[]} ids items of the network @param {string | URL | Uint8Array} source */
async function sessionsFor(ids, source) {
  const file = readSessionFile(await bytesOf(source));
  if (file.ids.length !== ids.length || file.ids.some((id, code) => id !== ids[code])) {
    throw notBlended("Sessions of other items than those of the model");
  }
  return new WeighedNeighbours(file.sessions, ids.length, file.settings);
}

/** @param {string} what */
function notBlended(what) {
  return new PocketrecError(`${what} cannot be blended in.`, {
    expected: "a .tflite, kept sessions of the same dataset, and a weight of 0 to 1",
    todo: "pocketrec export --model vstan, with the dataset of the .tflite",
  });
}

/** @param {string | URL | Uint8Array} source */
async function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  let why;
  try {
    const response = await fetch(source);
    if (response.ok) return new Uint8Array(await response.arrayBuffer());
    why = `${response.status} ${response.statusText}`;
  } catch (error) {
    why = error;
  }
  throw new PocketrecError(`The model ${source} cannot be loaded: ${why}`, {
    expected: "a file of `pocketrec export` there", todo: "check the address and the connection",
  });
}

/** The module that needs LiteRT.js. */
async function withLiteRt() {
  try {
    return await import("./gru4rec.js");
  } catch (error) {
    throw new PocketrecError(`LiteRT.js, or a file of this module, is missing: ${error}`, {
      expected: "the npm package @litertjs/core, 2.5.2 or later", todo: "npm install @litertjs/core", cause: error,
    });
  }
}
