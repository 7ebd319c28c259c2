/**
 * A model and its user: what models of all kinds share. Calls wait for each other, ids become codes, and what belongs to the
 * user is kept in IndexedDB: the journal, and what was learned of it.
 */

import { PocketrecError } from "./model_file.js";
import { added, checkJournal, find, newerThan, remove, write } from "./store.js";

/** @typedef {{id: string, score: number}} Recommendation an item, and its score: higher is better. */
/** @typedef {{code: number, score: number}} Scored */

/**
 * @typedef {object} Learned what came of `learn`.
 * @property {boolean} kept whether the model has learned: the weights of a GRU4Rec, the sessions of kept sessions. Otherwise
 *   they are those that were shipped.
 * @property {boolean} cached whether the state cache of a GRU4Rec has its share in recommendations.
 * @property {number} transitions pairs of an item and the next one in the journal.
 * @property {number} [before] mean loss of the transitions that were held out with the weights as shipped, in nats; with the
 *   state cache if that is kept. If any were held out.
 * @property {number} [after] the same with the weights that are kept, as far as they were learned of the others.
 * @property {Date} saved when.
 */

/** What a kind of model does itself has no body here. */
export class UserModel {
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  #usable = true;
  #database;
  #name;
  /** When the page could last draw and hear. @internal */
  _since = 0;

  /** @param {any} file what the file says @param {import("./model_file.js").Use} use
   * @param {string} database @param {string} name */
  constructor(file, use, database, name) {
    this.#database = database;
    this.#name = name;
    /** Ids of the items by code. @type {string[]} @internal */
    this._ids = [...file.ids];
    /** @type {Map<string, number>} @internal */
    this._codes = new Map(file.ids.map((/** @type {string} */ id, /** @type {number} */ code) => [id, code]));
    /** Settings, items and version, as the file says them. */
    this.file = file;
    /** How it is used for its user. */
    this.use = Object.freeze(use);
    /** The newest sessions of the user. @type {import("./store.js").Journal} */
    this.journal = checkJournal(undefined);
    /** What came of the last `learn`. @type {Learned | undefined} */
    this.learned = undefined;
    /** Why what was kept cannot be used; the model is as it was shipped then. @type {PocketrecError | undefined} */
    this.fault = undefined;
  }

  /** Whether it can learn. */
  get learns() {
    return true;
  }

  /** The most items that `recommend` gives. */
  get k() {
    return this._ids.length;
  }

  /** How many it gives if nobody says. @internal */
  get _top() {
    return this.k;
  }

  /** Clicks of the journal. @returns {number} @internal */
  get _limit() {
    return 0;
  }

  /** Go to the model as it was shipped. @returns {Promise<void>} @internal */
  async _reset() {}

  /** Go to a record of `_learn`. @param {any} record @returns {Promise<number>} the sessions that it was observed of. @internal */
  async _take(record) {
    return record.observed;
  }

  /** Go along sessions that have come into the journal. @param {string[][]} sessions @returns {Promise<void>} @internal */
  async _follow(sessions) {}

  /** Learn the journal. @param {"better" | "always"} keep
   * @returns {Promise<{learned: Learned}>} and what has to be kept beside it. @internal */
  async _learn(keep) {
    throw new Error(keep);
  }

  /** The best items among those that are wanted, best first. @param {number[]} codes of the session
   * @param {Uint8Array} wanted for each item @param {number} top @returns {Promise<Scored[]>} @internal */
  async _best(codes, wanted, top) {
    return [];
  }

  /** Free what has to be freed by hand. @internal */
  _free() {}

  /** Free its memory; it cannot be used any more. */
  close() {
    return this.#alone(async () => {
      this._free();
      this.#usable = false;
    });
  }

  /**
   * Recommend what may come next, best first.
   * @param {Iterable<unknown>} ids what was clicked so far, in order; ids that the model does not know are skipped.
   * @param {object} [options]
   * @param {number} [options.top] how many; at most `k`. By default `k` of a GRU4Rec, 20 of kept sessions.
   * @param {Iterable<unknown>} [options.exclude] ids that are left out, such as what is sold out.
   * @param {Iterable<unknown>} [options.allow] the only ids that there may be; there may be fewer than `top` then.
   * @param {boolean} [options.excludeSeen] whether the items of the session are left out; where sessions go on from each
   *   other (`use.between`), those of the journal, too. As the file says if not given.
   * @returns {Promise<Recommendation[]>}
   * @throws {PocketrecError} the model knows none of the ids, or cannot give so many.
   */
  recommend(ids, { top, exclude = [], allow, excludeSeen } = {}) {
    const clicked = [...ids], only = allow && [...allow]; // as they are now, not when its turn comes
    let out = [...exclude];
    return this.#alone(async () => {
      const count = top ?? this._top;
      if (!Number.isInteger(count) || count < 1 || count > this.k) {
        throw new PocketrecError(`${count} items are asked for.`, { expected: `1 to ${this.k}` });
      }
      const codes = this.#codesOf(clicked);
      if (excludeSeen ?? this.use.seen === "hide") {
        out = out.concat(clicked, this._carries ? this.journal.sessions.flat() : []);
      }
      const wanted = new Uint8Array(this._ids.length).fill(only ? 0 : 1);
      for (const code of this._known(only ?? [])) wanted[code] = 1;
      for (const code of this._known(out)) wanted[code] = 0;
      const best = await this._best(codes, wanted, count);
      return best.slice(0, count).map(({ code, score }) => ({ id: this._ids[code], score }));
    });
  }

  /**
   * Keep a session of the user that has ended, in the journal; what has learned goes along it at once.
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
      const since = this.journal.observed;
      const journal = await write(this.#database, this.#name, "journal",
        (there) => added(checkJournal(there), session, this._limit));
      if (journal.observed <= since) return this._resume(); // another page has forgotten what this one knew
      this.journal = journal;
      await this._follow(newerThan(journal, since));
    });
  }

  /**
   * Learn the journal, and keep that. What was learned before is replaced.
   *
   * A GRU4Rec begins with the weights of the file, and learns in `use.passes` passes of the signature `learn`, and by the
   * state cache; one of int8 by the state cache alone. Kept sessions learn a session of two clicks or more by keeping it, as
   * new as the newest one of the file; its new items are known from then on.
   * @param {object} [options]
   * @param {"better" | "always"} [options.keep] for a GRU4Rec. better, the state cache if it predicts the transitions of the
   *   journal better, each by those before it; and the learned weights if they predict the newest quarter of the transitions
   *   no worse, after the others were learned; then the quarter is learned, too. always: both, without looking.
   * @returns {Promise<Learned>}
   * @throws {PocketrecError} the file is of an earlier pocketrec, comes to numbers that are not finite, or the browser
   *   cannot keep what was learned; the model stays as it was.
   */
  learn({ keep = "better" } = {}) {
    return this.#alone(async () => {
      if (!["better", "always"].includes(keep)) {
        throw new PocketrecError(`\`keep\` is ${keep}.`, { expected: "better or always" });
      }
      if (!this.learns) {
        throw new PocketrecError("This model cannot learn: it is of an earlier pocketrec.", {
          expected: "a model of this version", todo: "pocketrec export, with --from the checkpoint that it was made from",
        });
      }
      const journal = checkJournal((await find(this.#database, this.#name)).journal); // other pages may have added to it
      try {
        this.journal = journal;
        const found = await this._learn(keep), record = { base: this.file.base, observed: journal.observed, ...found };
        await write(this.#database, this.#name, "learned", (there) => {
          if (checkJournal(there).observed >= record.observed) return record;
          throw new PocketrecError("Another page has forgotten meanwhile what this one learned from.", {
            expected: "the journal that it began with", todo: "observe() sessions, and learn() again",
          });
        });
        this.fault = undefined;
        return found.learned;
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
    await this._reset();
    this.journal = checkJournal(undefined);
    this.learned = this.fault = undefined;
    let since = 0;
    try {
      const { journal, learned } = await find(this.#database, this.#name);
      this.journal = checkJournal(journal);
      if (learned?.base === this.file.base) since = await this._take(learned);
    } catch (error) {
      if (!(error instanceof PocketrecError)) throw error;
      this.fault = error;
    }
    await this._follow(newerThan(this.journal, since));
  }

  /** Whether a session goes on from the one before. @internal */
  get _carries() {
    return this.use.between === "carry";
  }

  /** The codes of ids that the model knows. @param {unknown[]} ids @returns {number[]} @internal */
  _known(ids) {
    return ids.flatMap((id) => this._codes.get(String(id)) ?? []);
  }

  /** @param {unknown[]} ids */
  #codesOf(ids) {
    const codes = this._known(ids);
    if (codes.length) return codes;
    throw new PocketrecError(`The model knows none of the items ${ids.join(", ") || "(there are none)"}.`, {
      expected: `ids of its ${this._ids.length} items, ${this._ids[0]} for one`,
    });
  }

  /** Run something when everything before it is done. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  #alone(work) {
    const turn = this.#last.then(() => {
      if (!this.#usable) throw new PocketrecError("The model is closed.", { expected: "calls before close()" });
      this._since = performance.now();
      return work();
    });
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

/** What was kept is not what `learn` keeps. @param {string} what */
export function damagedRecord(what) {
  return new PocketrecError(`${what} that was kept is damaged.`, {
    expected: "what learn() keeps", todo: "learn() the journal again, or forget()",
  });
}
