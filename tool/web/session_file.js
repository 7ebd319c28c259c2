/**
 * Kept sessions of `pocketrec export --model vstan` as bytes, read without anything else.
 *
 * The file is safetensors: the length of a header in 8 bytes, the header in JSON, rows of whole numbers (see
 * tool/pocketrec/lite/neighbour_model.py). Every place, size and number is checked before it is used.
 */

import { decode, part, PocketrecError, USE } from "./model_file.js";

/**
 * @typedef {object} Neighbourhood settings of the formula, as in tool/pocketrec/lite/neighbours.py.
 * @property {number} neighbours sessions that give their items, at most.
 * @property {number} newest sessions of each item that are looked at.
 * @property {"exponential" | "linear"} shape how falls fall.
 * @property {number} inside @property {number} norm @property {number} recency
 * @property {number} match @property {number} near @property {number} idf @property {number} again
 */

/**
 * @typedef {object} Sessions each a set of items with the place of its last click, one session after the other.
 * @property {Int32Array} items item codes.
 * @property {Uint16Array} places of the last click on each of these, in its session.
 * @property {Int32Array} starts where each session begins in `items`, and the end.
 * @property {Int32Array} lengths clicks of each session.
 * @property {Float64Array} times when each session began, in seconds since 1970, ascending.
 */

/**
 * @typedef {object} SessionFile
 * @property {"neighbours"} kind
 * @property {string} method its name in the literature.
 * @property {Neighbourhood} settings
 * @property {import("./model_file.js").Use} use as the file says; it says `seen` alone.
 * @property {string} base what identifies the file: its XXH3-128, as its header says.
 * @property {string[]} ids item ids; the code of an item is its place.
 * @property {number[]} support clicks of each item in training.
 * @property {Sessions} sessions
 */

const FORMAT = 4;
const WIDTHS = /** @type {Record<string, number>} */ ({ U8: 1, U16: 2, U32: 4, U64: 8 });
const ROWS = ["items", "places", "sizes", "lengths", "times", "ids", "support"];
const LARGEST = 2 ** 40; // of a number in a row
const MOST_CLICKS = 2 ** 31 - 1; // of a session
const LARGEST_PLACE = 2 ** 16 - 1;
const FILE = "kept sessions of `pocketrec export --model vstan` (or s-knn, v-sknn, stan)";
/** @type {Neighbourhood} */
const DEFAULTS = {
  neighbours: 500, newest: 2500, shape: "exponential", inside: Infinity, norm: 0.5, recency: Infinity, match: Infinity,
  near: Infinity, idf: 0, again: 0,
};

/** Whether a file begins as safetensors do: with a header in JSON. @param {Uint8Array} bytes */
export function isSessionFile(bytes) {
  return bytes[8] === 0x7b && bytes[6] === 0 && bytes[7] === 0;
}

/**
 * @param {Uint8Array} bytes a whole file.
 * @returns {SessionFile}
 * @throws {PocketrecError} it is damaged, or something else.
 */
export function readSessionFile(bytes) {
  const { about, rows } = attempt(() => read(bytes));
  if (about.format !== FORMAT || about.kind !== "neighbours") {
    throw new PocketrecError(`This is a file of kind ${about.kind} and format ${about.format}.`, {
      expected: `${FILE}: of kind neighbours and format ${FORMAT}`, todo: "export it with the version that this module is of",
    });
  }
  return attempt(() => {
    const { method, own, xxh3 } = about, settings = checkSettings(about.settings);
    if (typeof own !== "boolean" || typeof xxh3 !== "string") throw new TypeError("own or xxh3 is missing");
    const ids = decode(bytesIn(rows.ids)).split("\n"), support = [...numbers(rows.support)];
    if (ids.some((id) => !id || id.includes("\r")) || new Set(ids).size !== ids.length) {
      throw new RangeError("its ids are not different ones, a line each");
    }
    if (support.length !== ids.length) throw new RangeError(`it has ${ids.length} ids and ${support.length} supports`);
    const seen = /** @type {"show" | "hide"} */ (own ? "show" : "hide");
    return {
      kind: "neighbours", method: String(method), settings, use: { ...USE, seen }, base: xxh3, ids, support,
      sessions: sessionsOf(rows, ids.length),
    };
  });
}

/** @typedef {{dtype: string, bytes: Uint8Array}} Row */

/** The header and its rows; each byte behind the header belongs to one of them. @param {Uint8Array} bytes */
function read(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true)), data = part(bytes, 8 + length, bytes.length - 8 - length);
  const { __metadata__: metadata, ...described } = JSON.parse(decode(part(bytes, 8, length)));
  const about = JSON.parse(metadata.pocketrec), rows = /** @type {Record<string, Row>} */ ({});
  if (about === null || typeof about !== "object") throw new TypeError("its header has no settings of pocketrec");
  const order = Object.entries(described).sort(([, { data_offsets: [one, end] }], [, { data_offsets: [other, last] }]) =>
    one - other || end - last);
  let at = 0;
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of order) {
    const width = Object.hasOwn(WIDTHS, dtype) && WIDTHS[dtype];
    const fits = width && shape.length === 1 && Number.isSafeInteger(shape[0]) && shape[0] >= 0;
    if (!fits || from !== at || to !== from + shape[0] * width) throw new RangeError(`${name} is not a row of whole numbers`);
    rows[name] = { dtype, bytes: part(data, from, to - from) };
    at = to;
  }
  if (at !== data.length) throw new RangeError("it has bytes that belong to nothing");
  const missing = ROWS.find((name) => !Object.hasOwn(rows, name));
  if (missing) throw new RangeError(`${missing} is missing`);
  return { about, rows };
}

/** @param {Record<string, Row>} rows @param {number} items how many there are @returns {Sessions} */
function sessionsOf(rows, items) {
  const [codes, places, sizes, lengths, times] = ROWS.slice(0, 5).map((name) => numbers(rows[name]));
  const count = sizes.length, starts = new Int32Array(count + 1);
  if (places.length !== codes.length || lengths.length !== count || times.length !== count) {
    throw new RangeError("its rows are not of one length");
  }
  if (codes.length > MOST_CLICKS) throw new RangeError("it is too large");
  for (let session = 0, end = 0; session < count; session++) {
    end += sizes[session];
    const fits = sizes[session] >= 1 && end <= codes.length && lengths[session] >= sizes[session];
    if (!fits || lengths[session] > MOST_CLICKS) throw new RangeError("a session is empty, or longer than can be");
    if (session && times[session] < times[session - 1]) throw new RangeError("a session is not in the order of time");
    starts[session + 1] = end;
  }
  if (starts[count] !== codes.length) throw new RangeError("its sessions do not hold all items");
  for (let pair = 0; pair < codes.length; pair++) {
    if (!(codes[pair] < items && places[pair] <= LARGEST_PLACE)) throw new RangeError("an item or a place is larger than can be");
  }
  return {
    items: Int32Array.from(codes), places: Uint16Array.from(places), starts, lengths: Int32Array.from(lengths),
    times: Float64Array.from(times),
  };
}

/** @param {Row} row */
function bytesIn({ dtype, bytes }) {
  if (dtype !== "U8") throw new TypeError("its ids are not text");
  return bytes;
}

/** The numbers of a row, copied: they may lie anywhere. @param {Row} row */
function numbers({ dtype, bytes }) {
  const { buffer } = bytes.slice();
  if (dtype === "U8") return new Uint8Array(buffer);
  if (dtype === "U16") return new Uint16Array(buffer);
  if (dtype === "U32") return new Uint32Array(buffer);
  const found = Float64Array.from(new BigUint64Array(buffer), Number);
  if (found.some((one) => one >= LARGEST)) throw new RangeError("a number is too large");
  return found;
}

/** @param {any} given @returns {Neighbourhood} */
function checkSettings(given) {
  const settings = /** @type {any} */ ({ ...DEFAULTS, ...given });
  for (const name of Object.keys(settings)) settings[name] ??= Infinity; // JSON has no number for it
  const whole = ["neighbours", "newest"].every((name) => Number.isSafeInteger(settings[name]) && settings[name] > 0);
  const lengths = ["inside", "recency", "match", "near"].every((name) => settings[name] > 0);
  const rest = ["norm", "idf", "again"].every((name) => settings[name] >= 0 && settings[name] < Infinity);
  const known = Object.entries(settings).every(([name, value]) =>
    Object.hasOwn(DEFAULTS, name) && typeof value === typeof /** @type {any} */ (DEFAULTS)[name]);
  if (whole && lengths && rest && known && ["exponential", "linear"].includes(settings.shape)) return settings;
  throw new RangeError(`its settings are ${JSON.stringify(settings).slice(0, 200)}`);
}

/** @template T @param {() => T} work @returns {T} */
function attempt(work) {
  try {
    return work();
  } catch (error) {
    throw new PocketrecError(`These are not intact kept sessions of pocketrec: ${/** @type {Error} */ (error).message}.`, {
      expected: FILE, todo: "export it again, or copy it again", cause: error,
    });
  }
}
