/**
 * Kept sessions and their user: recommendations by sessions like the current one. The formula, its settings and its ties are
 * those of tool/pocketrec/lite/neighbours.py; the same calls in Python are those of `NeighbourModel`.
 */

import { damagedRecord, UserModel } from "./user.js";

/** @typedef {import("./session_file.js").Neighbourhood} Neighbourhood */
/** @typedef {import("./session_file.js").Sessions} Sessions */
/** @typedef {import("./user.js").Scored} Scored */

const TOP = 20; // items that are recommended if nobody says how many
const JOURNAL = 4096; // clicks of the user that are kept: to learn them takes no time
const FARTHEST = 255; // ages and distances of more clicks count as this many
const AGAIN_FALLS = 10; // clicks over which what an item of the session gets more falls
const LARGEST_PLACE = 2 ** 16 - 1;
const SECONDS_A_DAY = 86_400;
const UNSEEN = 1e-4; // is added to the share of an item among the sessions, so that one of none of them is not ruled out

/** Loaded kept sessions and their user. */
export class NeighbourModel extends UserModel {
  /** @type {WeighedNeighbours | undefined} */
  #neighbours;

  get trainable() {
    return true;
  }

  get _top() {
    return Math.min(TOP, this.k);
  }

  get _limit() {
    return JOURNAL;
  }

  async _reset() {
    this.#neighbours = undefined;
  }

  /** @param {any} record */
  async _take({ observed, learned }) {
    if (typeof learned?.kept !== "boolean" || !Number.isSafeInteger(observed)) throw damagedRecord("The record");
    this.learned = learned;
    return observed;
  }

  /** The index is made here, so that a click need not wait for it. */
  async _follow() {
    if (this.learned?.kept || !this.#neighbours) this.#index(this.learned?.kept ? this.journal.sessions : []);
  }

  async _learn() {
    const transitions = this.journal.sessions.reduce((sum, one) => sum + one.length - 1, 0);
    this.learned = { kept: transitions > 0, cached: false, transitions, saved: new Date() };
    this.#index(this.journal.sessions);
    return { learned: this.learned };
  }

  /** @param {number[]} codes @param {Uint8Array} wanted @param {number} top */
  async _best(codes, wanted, top) {
    const scores = this.scores(codes);
    for (let code = 0; code < wanted.length; code++) if (!(scores[code] > 0)) wanted[code] = 0;
    return largest(scores, wanted, top);
  }

  _free() {
    this.#neighbours = undefined;
  }

  /** Scores of all items after the clicks of a session, item codes, oldest first; 0 or more. @param {number[]} codes
   * @internal */
  scores(codes) {
    return /** @type {WeighedNeighbours} */ (this.#neighbours).scores(codes);
  }

  /** Index the sessions of the file and more, whose new items are known from now on. @param {string[][]} more */
  #index(more) {
    const { ids, sessions, settings } = this.file;
    for (const id of this._ids.splice(ids.length)) this._codes.delete(id);
    const learned = more.filter((one) => one.length > 1);
    for (const id of learned.flat()) {
      if (!this._codes.has(id)) this._codes.set(id, this._ids.push(id) - 1);
    }
    const all = learned.length ? joined(sessions, learned.map((one) => this._known(one))) : sessions;
    this.#neighbours = new WeighedNeighbours(all, this._ids.length, settings);
  }
}

/** Sessions and more of them, as new as the newest. @param {Sessions} sessions @param {number[][]} more item codes
 * @returns {Sessions} */
function joined({ items, places, starts, lengths, times }, more) {
  const sets = more.map((codes) => {
    /** @type {Map<number, number>} the last place of each item, in the order of these */
    const last = new Map();
    codes.forEach((code, place) => {
      last.delete(code);
      last.set(code, Math.min(place, LARGEST_PLACE));
    });
    return last;
  });
  let end = items.length;
  return {
    items: extended(items, sets.flatMap((one) => [...one.keys()])),
    places: extended(places, sets.flatMap((one) => [...one.values()])),
    starts: extended(starts, sets.map((one) => (end += one.size))),
    lengths: extended(lengths, more.map((codes) => codes.length)),
    times: extended(times, more.map(() => times.at(-1) ?? 0)),
  };
}

/** @template {Int32Array | Uint16Array | Float64Array} Row @param {Row} row @param {number[]} more @returns {Row} */
function extended(row, more) {
  const all = new /** @type {any} */ (row.constructor)(row.length + more.length);
  all.set(row);
  all.set(more, row.length);
  return all;
}

/** The items of a session with their ages, the youngest last. @param {number[]} codes */
function youngest(codes) {
  /** @type {Map<number, number>} */
  const ages = new Map();
  for (let age = 0; age < codes.length; age++) {
    const code = codes[codes.length - 1 - age];
    if (!ages.has(code)) ages.set(code, Math.min(age, FARTHEST));
  }
  return [...ages].reverse();
}

/** Scores items by an index of sessions. It keeps buffers, so one call has to end before the next. */
export class WeighedNeighbours {
  #sessions;
  #settings;
  #inside;
  #match;
  #near;
  #again;
  #weights; // of each session
  #rarity; // of each item
  // By item, of each from the newest session on: where they begin, the session, the place of its last click on the item.
  #begins;
  #who;
  #where;
  #likeness; // of each session: a sum that is 0 between two calls
  #last; // and the number of the last pair that it shares

  /** @param {Sessions} sessions @param {number} nItems @param {Neighbourhood} settings */
  constructor(sessions, nItems, settings) {
    const { items, places, starts, lengths, times } = sessions, count = lengths.length;
    this.#sessions = sessions;
    this.#settings = settings;
    const falls = [settings.inside, settings.match, settings.near, AGAIN_FALLS];
    [this.#inside, this.#match, this.#near, this.#again] = falls.map((length) =>
      Float64Array.from({ length: FARTHEST + 1 }, (_, clicks) =>
        settings.shape === "exponential" ? Math.exp(-(clicks / length)) : Math.max(0, 1 - clicks / length)));
    const newest = times.at(-1) ?? 0;
    this.#weights = Float64Array.from(lengths, (length, session) =>
      Math.exp(-((newest - times[session]) / SECONDS_A_DAY) / settings.recency) / length ** settings.norm);
    const support = new Int32Array(nItems);
    for (const code of items) support[code]++;
    this.#rarity = Float64Array.from(support, (held) => 1 + settings.idf * Math.log(Math.max(count, 1) / Math.max(held, 1)));
    this.#begins = new Int32Array(nItems + 1);
    for (let code = 0; code < nItems; code++) this.#begins[code + 1] = this.#begins[code] + support[code];
    this.#who = new Int32Array(items.length);
    this.#where = new Uint16Array(items.length);
    const next = this.#begins.slice();
    for (let session = count - 1; session >= 0; session--) {
      for (let pair = starts[session]; pair < starts[session + 1]; pair++) {
        const at = next[items[pair]]++;
        this.#who[at] = session;
        this.#where[at] = places[pair];
      }
    }
    this.#likeness = new Float64Array(count);
    this.#last = new Int32Array(count);
  }

  /** Scores of all items after the clicks of a session, item codes, oldest first; 0 or more. @param {number[]} codes */
  scores(codes) {
    const { items, places, starts } = this.#sessions, near = this.#near, rarity = this.#rarity;
    const own = youngest(codes), sums = new Float64Array(rarity.length), { who, weights, meetings } = this.#likest(own);
    for (let one = 0; one < who.length; one++) {
      const weight = weights[one], meeting = meetings[one], end = starts[who[one] + 1];
      for (let pair = starts[who[one]]; pair < end; pair++) {
        sums[items[pair]] += weight * near[Math.min(Math.abs(places[pair] - meeting), FARTHEST)];
      }
    }
    let best = 0;
    for (let code = 0; code < sums.length; code++) best = Math.max(best, sums[code] *= rarity[code]);
    for (const [code, age] of own) sums[code] += this.#settings.again * (best || 1) * this.#again[age];
    return Float32Array.from(sums);
  }

  /** The neighbours, their likeness times the fall of `match`, and the place of the latest shared item in each.
   * @param {[number, number][]} own of `youngest` */
  #likest(own) {
    const begins = this.#begins, owners = this.#who, likeness = this.#likeness, last = this.#last;
    const end = (/** @type {number} */ code) => Math.min(begins[code + 1], begins[code] + this.#settings.newest);
    let pairs = 0, found = 0;
    for (const [code, age] of own) {
      const fall = this.#inside[age], stop = end(code);
      for (let at = begins[code]; at < stop; at++) {
        likeness[owners[at]] += fall;
        last[owners[at]] = pairs++;
      }
    }
    const [who, meetings] = [new Int32Array(pairs), new Int32Array(pairs)];
    // In float32, so that sums that differ in their last bits alone are equal.
    const values = new Float32Array(pairs), matches = new Float64Array(pairs);
    pairs = 0;
    for (const [code, age] of own) {
      const stop = end(code);
      for (let at = begins[code]; at < stop; at++) {
        const session = owners[at];
        if (last[session] !== pairs++) continue; // the last pair of each session is its latest shared item
        who[found] = session;
        values[found] = likeness[session] * this.#weights[session];
        matches[found] = this.#match[age];
        meetings[found++] = this.#where[at];
        likeness[session] = 0;
      }
    }
    const best = likest(values.subarray(0, found), who.subarray(0, found), this.#settings.neighbours);
    return {
      who: best.map((one) => who[one]), meetings: best.map((one) => meetings[one]),
      weights: Float64Array.from(best, (one) => values[one] * matches[one]),
    };
  }
}

/** Where the largest values are, at most so many; of equal ones those of the newest sessions. In ascending order.
 * @param {Float32Array} values @param {Int32Array} sessions @param {number} most */
function likest(values, sessions, most) {
  if (values.length <= most) return Int32Array.from(values.keys());
  const limit = nth(values, most), level = sessions.filter((_, one) => values[one] === limit);
  let room = most;
  for (const value of values) if (value > limit) room--;
  const oldest = nth(level, room), best = new Int32Array(most);
  for (let one = 0, found = 0; one < values.length; one++) {
    if (values[one] > limit || (values[one] === limit && sessions[one] >= oldest)) best[found++] = one;
  }
  return best;
}

/** The wanted items with the largest scores, best first; of equal ones the one of the lower code comes first.
 * @param {Float32Array} scores @param {Uint8Array} wanted @param {number} top @returns {Scored[]} */
export function largest(scores, wanted, top) {
  const some = scores.filter((_, code) => wanted[code]), limit = some.length > top ? nth(some, top) : -Infinity;
  const best = [];
  for (let code = 0; code < scores.length; code++) {
    if (wanted[code] && scores[code] >= limit) best.push({ code, score: scores[code] });
  }
  return best.sort((one, other) => Number(other.score > one.score) - Number(other.score < one.score)).slice(0, top);
}

/** Scores of a network and of sessions in one, as in tool/pocketrec/lite/blend.py; higher is better.
 * @param {Float32Array} shares probabilities of all items @param {Float32Array} scores of `WeighedNeighbours`
 * @param {number} weight of the sessions, 0 to 1 */
export function blended(shares, scores, weight) {
  const sum = Math.max(scores.reduce((all, one) => all + one, 0), 1e-30);
  return Float32Array.from(shares, (share, code) =>
    (1 - weight) * Math.log(Math.max(share, 1e-30)) + weight * Math.log(scores[code] / sum + UNSEEN));
}

/** The n-th largest of some numbers, from 1 on, by quickselect; they are copied.
 * @template {Float32Array | Int32Array} Numbers @param {Numbers} numbers @param {number} n */
function nth(numbers, n) {
  const values = numbers.slice(), target = n - 1;
  let first = 0, last = values.length - 1;
  while (first < last) {
    const pivot = values[(first + last) >> 1];
    let left = first, right = last;
    while (left <= right) {
      while (values[left] > pivot) left++;
      while (values[right] < pivot) right--;
      if (left <= right) {
        const one = values[left];
        values[left++] = values[right];
        values[right--] = one;
      }
    }
    if (target <= right) last = right;
    else if (target >= left) first = left;
    else break;
  }
  return values[target];
}
