/**
 * A model file of pocketrec as bytes: its card and its items, read without LiteRT.
 *
 * The file is a flatbuffer with a metadata entry `pocketrec`, the card, and behind it a ZIP archive with items.txt and
 * support.txt (see tool/pocketrec/lite/catalogue.py). Every place and size is checked before it is used.
 */

/** What an app or its user can cause or cure. The message says what was wrong, what was expected, and what to do next. */
export class PocketrecError extends Error {
  /**
   * @param {string} wrong what was found.
   * @param {{expected?: string, todo?: string, cause?: unknown}} [more] what should be there, the next thing to try, and
   *   the error behind it.
   */
  constructor(wrong, { expected = "", todo = "", cause } = {}) {
    super([wrong, expected && `Expected: ${expected}`, todo && `To go on: ${todo}`].filter(Boolean).join("\n"), { cause });
    this.name = "PocketrecError";
    this.wrong = wrong;
    this.expected = expected;
    this.todo = todo;
  }
}

/**
 * @typedef {object} Settings what a model was made with; there are more than these.
 * @property {number} n_items
 * @property {number} hidden_size units of the GRU, H.
 * @property {number} batch_size lanes of `infer`, B.
 * @property {number} top_k most items that `recommend` gives.
 * @property {number} journal clicks of its user that a model keeps, J.
 * @property {"float32" | "float16" | "int8"} storage how weights are stored; those of int8 cannot learn.
 */

/**
 * @typedef {object} Use how a model is used for its user.
 * @property {number} passes over the journal in which it is learned, 1 to 100.
 * @property {number} cache_share of the state cache in a recommendation, 0 to 0.9.
 * @property {"reset" | "carry"} between whether a session begins anew, or goes on from the one before.
 * @property {"show" | "hide"} seen whether items of the session may be recommended again.
 */

/** @typedef {{rate: number, share: number, pull: number}} Amounts how much a step of `learn` changes. */

/**
 * @typedef {object} ModelFile
 * @property {"gru4rec"} kind
 * @property {Settings} settings
 * @property {Use} use as the file says.
 * @property {Amounts | undefined} learning undefined where the weights cannot learn: int8, and files of before.
 * @property {boolean} caches whether it recommends with a state cache; files of before do not.
 * @property {string} base what identifies the model as it was shipped: its weights, settings and items.
 * @property {string} items the hash of the items: the same ids in the same order have the same one.
 * @property {string} version of the pocketrec that wrote the file.
 * @property {string[]} ids item ids; the code of an item is its place.
 * @property {number[]} support clicks of each item in training.
 */

const FORMATS = [3, 4, 5, 6], LEARNS = 5, CACHES = 6; // of the card, and the first that can
export const USE = /** @type {Use} */ ({ passes: 3, cache_share: 0.05, between: "reset", seen: "show" }); // where a file does not say it
const JOURNAL = 256; // of files of before
const END = 0x06054b50, ENTRY = 0x02014b50, LOCAL = 0x04034b50; // what the parts of a ZIP archive begin with

/**
 * @param {Uint8Array} bytes a whole model file.
 * @returns {ModelFile}
 * @throws {PocketrecError} it is damaged, or was not written by `pocketrec export` of this version.
 */
export function readModelFile(bytes) {
  const text = attempt("its metadata cannot be read", () => metadata(bytes));
  if (text === undefined) throw damaged("it has no settings of pocketrec");
  const card = attempt("its settings cannot be read", () => JSON.parse(text));
  if (card?.kind !== undefined) {
    throw new PocketrecError(`This is a model of ${card.kind}, which recommends to the users it was trained with.`, {
      expected: "a GRU4Rec, which recommends by what was clicked",
      todo: "pocketrec export",
    });
  }
  const format = card?.format;
  if (!FORMATS.includes(format)) {
    throw new PocketrecError(`The settings in the file have the format ${format}.`, {
      expected: `one of ${FORMATS.join(", ")}`, todo: "pocketrec export, of the version that this module is of",
    });
  }
  const settings = { journal: JOURNAL, ...card.settings }, { items, version, digests } = card;
  for (const name of ["n_items", "hidden_size", "batch_size", "top_k", "journal"]) {
    if (!Number.isSafeInteger(settings[name]) || settings[name] < 1) throw damaged(`its ${name} is ${settings[name]}`);
  }
  const use = format < CACHES ? USE : card.use, learning = format < LEARNS ? undefined : card.learning;
  const wrong = faultOfUse(use) ?? (learning === undefined ? undefined : faultOfAmounts(learning));
  if (wrong) throw damaged(`its ${wrong}`);
  if (digests === null || typeof digests !== "object") throw damaged("it has no hashes of its weights");
  const [ids, supports] = attempt("the list of its items cannot be read", () =>
    archived(bytes, ["items.txt", "support.txt"]).map(lines));
  if (ids.length !== settings.n_items || supports.length !== ids.length || new Set(ids).size !== ids.length) {
    throw damaged(`it has ${ids.length} ids and ${supports.length} numbers of clicks for ${settings.n_items} items`);
  }
  return {
    kind: "gru4rec", settings, use, learning: settings.storage === "int8" ? undefined : learning, caches: format >= CACHES,
    base: JSON.stringify([Object.entries(digests).sort(), Object.entries(settings).sort(), String(items)]),
    items: String(items), version: String(version), ids, support: supports.map(Number),
  };
}

/** What is wrong with how a model is to be used; undefined where nothing is. @param {any} use */
export function faultOfUse(use) {
  return faultOf({
    passes: Number.isInteger(use?.passes) && within(use.passes, 1, 100), cache_share: within(use?.cache_share, 0, 0.9),
    between: ["reset", "carry"].includes(use?.between), seen: ["show", "hide"].includes(use?.seen),
  }, use);
}

/** @param {any} amounts */
function faultOfAmounts(amounts) {
  const { rate, share, pull } = amounts ?? {};
  return faultOf({ rate: within(rate, 0, 1000), share: within(share, 0, 1000), pull: within(pull, 0, 1) }, amounts);
}

/** @param {unknown} value @param {number} least @param {number} most */
function within(value, least, most) {
  return typeof value === "number" && value >= least && value <= most;
}

/** @param {Record<string, boolean>} right @param {any} values */
function faultOf(right, values) {
  const name = Object.keys(right).find((one) => !right[one]);
  return name && `${name} is ${values?.[name]}`;
}

/** @param {string} why @param {unknown} [cause] */
function damaged(why, cause) {
  return new PocketrecError(`This is not an intact model of pocketrec: ${why}.`, {
    expected: "a .tflite of `pocketrec export`, or kept sessions", todo: "export it again, or copy it again", cause,
  });
}

/** @template T @param {string} why @param {() => T} read @returns {T} */
function attempt(why, read) {
  try {
    return read();
  } catch (error) {
    throw damaged(`${why} (${/** @type {Error} */ (error).message})`, error);
  }
}

/**
 * The metadata entry `pocketrec` of a flatbuffer; undefined where there is none. A DataView throws outside of the file.
 * @param {Uint8Array} bytes
 */
function metadata(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (decode(part(bytes, 4, 4)) !== "TFL3") throw new RangeError("it does not begin as a .tflite does");
  /** @param {number} at */
  const follow = (at) => at + view.getUint32(at, true);
  /** Where a field of a table is; 0 where it has none. @param {number} table @param {number} number */
  const field = (table, number) => {
    const names = table - view.getInt32(table, true);
    const offset = 4 + 2 * number < view.getUint16(names, true) ? view.getUint16(names + 4 + 2 * number, true) : 0;
    return offset && table + offset;
  };
  /** The content of a field that is bytes or text. @param {number} table @param {number} number */
  const content = (table, number) => {
    const at = field(table, number) && follow(field(table, number));
    return at ? part(bytes, at + 4, view.getUint32(at, true)) : new Uint8Array();
  };
  /** The tables in a field. @param {number} table @param {number} number @param {number} index */
  const child = (table, number, index) => {
    const at = follow(field(table, number));
    if (index >= view.getUint32(at, true)) throw new RangeError("a table is missing");
    return follow(at + 4 + 4 * index);
  };
  const root = follow(0);
  const entries = field(root, 6) ? view.getUint32(follow(field(root, 6)), true) : 0;
  for (let index = 0; index < entries; index++) {
    const entry = child(root, 6, index);
    if (decode(content(entry, 0)) === "pocketrec") {
      return decode(content(child(root, 4, field(entry, 1) && view.getUint32(field(entry, 1), true)), 0));
    }
  }
  return undefined;
}

/**
 * Texts of files in the archive behind a flatbuffer; they are not compressed.
 * @param {Uint8Array} bytes @param {string[]} names @returns {string[]}
 */
function archived(bytes, names) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22; // without a comment, which pocketrec does not write, the end is at the end
  while (end >= 0 && view.getUint32(end, true) !== END && end > bytes.length - 22 - 0xffff) end--;
  if (end < 0 || view.getUint32(end, true) !== END) throw new RangeError("there is no archive behind the model");
  const size = view.getUint32(end + 12, true), before = end - size - view.getUint32(end + 16, true);
  if (before < 0) throw new RangeError("the archive has no whole directory");
  /** @type {Map<string, string>} */
  const found = new Map();
  let at = end - size;
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    if (view.getUint32(at, true) !== ENTRY) throw new RangeError("the directory of the archive is damaged");
    const method = view.getUint16(at + 10, true), crc = view.getUint32(at + 16, true);
    const [packed, whole] = [view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
    const [named, extra, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const name = decode(part(bytes, at + 46, named)), local = before + view.getUint32(at + 42, true);
    at += 46 + named + extra + comment;
    if (!names.includes(name)) continue;
    if (found.has(name)) throw new RangeError(`${name} is there twice`);
    if (method !== 0 || packed !== whole) throw new RangeError(`${name} is compressed`);
    if (view.getUint32(local, true) !== LOCAL) throw new RangeError(`${name} is not where the directory says`);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const text = part(bytes, start, whole);
    if (crc32(text) !== crc) throw new RangeError(`${name} does not have its checksum`);
    found.set(name, decode(text));
  }
  return names.map((name) => {
    const text = found.get(name);
    if (text === undefined) throw new RangeError(`${name} is missing`);
    return text;
  });
}

/** Bytes of a file; outside of it throws. @param {Uint8Array} bytes @param {number} start @param {number} length */
export function part(bytes, start, length) {
  if (start < 0 || start + length > bytes.length) throw new RangeError("it ends too early");
  return bytes.subarray(start, start + length);
}

/** @param {Uint8Array} bytes UTF-8; anything else throws. */
export function decode(bytes) {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}

/** @param {string} text */
function lines(text) {
  return text.split("\n").slice(0, -1);
}

const CRC = Int32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** @param {Uint8Array} bytes */
function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}
