/**
 * What belongs to a user, in IndexedDB: the journal, which is the newest sessions, and what was learned of it. Two records
 * for each name, either written whole or not at all.
 */

import { PocketrecError } from "./model_file.js";

const OBJECTS = ["journal", "learned"], VERSION = 2;

/** @typedef {{sessions: string[][], observed: number}} Journal sessions, oldest first, and how many were added in all. */

/** @param {Journal} journal @param {string[]} session @param {number} limit clicks that are kept @returns {Journal}
 *  The oldest session goes first; of one that is longer than the limit the newest clicks stay. */
export function added({ sessions, observed }, session, limit) {
  const kept = [session.slice(-limit)];
  let clicks = kept[0].length;
  for (const one of [...sessions].reverse()) {
    if ((clicks += one.length) > limit) break;
    kept.push(one);
  }
  return { sessions: kept.reverse(), observed: observed + 1 };
}

/** The sessions that were added since there were `observed`, as far as they are kept.
 * @param {Journal} journal @param {number} observed */
export function newerThan(journal, observed) {
  const count = journal.observed - observed;
  return count > 0 ? journal.sessions.slice(-count) : [];
}

/** A journal as it was kept; an empty one where there is none. @param {any} record @returns {Journal} */
export function checkJournal(record) {
  if (record === undefined) return { sessions: [], observed: 0 };
  const { sessions, observed } = record ?? {};
  const session = (/** @type {unknown} */ one) =>
    Array.isArray(one) && one.length && one.every((id) => typeof id === "string");
  if (Array.isArray(sessions) && sessions.every(session) && Number.isSafeInteger(observed) && observed >= sessions.length) {
    return { sessions, observed };
  }
  throw new PocketrecError("The journal that was kept is damaged.", {
    expected: "what observe() keeps", todo: "forget(); what was observed is lost",
  });
}

/** @param {string} database @param {string} name @returns {Promise<{journal: any, learned: any}>} the records of a name. */
export async function find(database, name) {
  const found = await transact(database, "readonly", (objects) => OBJECTS.map((one) => objects(one).get(name)));
  return { journal: found[0], learned: found[1] };
}

/**
 * Write a record, in one transaction with a look at the journal.
 * @template T @param {string} database @param {string} name @param {"journal" | "learned"} into
 * @param {(journal: any) => T} make the record from that of the journal; where it throws, nothing is written.
 * @returns {Promise<T>} the record, once it is on the disk.
 */
export async function write(database, name, into, make) {
  /** @type {any} */
  let record;
  await transact(database, "readwrite", (objects, attempt) => {
    const there = objects("journal").get(name);
    there.onsuccess = () => attempt(() => objects(into).put(record = make(there.result), name));
    return [];
  });
  return record;
}

/** @param {string} database @param {string} name */
export async function remove(database, name) {
  await transact(database, "readwrite", (objects) => OBJECTS.map((one) => objects(one).delete(name)));
}

/** @typedef {(objects: (name: string) => IDBObjectStore, attempt: (work: () => void) => void) => IDBRequest[]} Work */

/**
 * @param {string} database @param {IDBTransactionMode} mode @param {Work} work
 * @returns {Promise<any[]>} what the requests that `work` returns have found, once everything is on the disk.
 */
async function transact(database, mode, work) {
  /** @type {IDBDatabase | undefined} */
  let opened;
  try {
    opened = await open(database);
    return await done(opened, mode, work);
  } catch (error) {
    if (error instanceof PocketrecError) throw error;
    const full = /** @type {Error} */ (error)?.name === "QuotaExceededError";
    throw new PocketrecError(`The browser cannot keep or read what belongs to its user: ${error}`, {
      expected: full ? "room on the disk" : "a page that may use IndexedDB (private windows often may not)",
      todo: full ? "make room; nothing that was kept before is lost" : "go on without keeping, or use another window",
      cause: error,
    });
  } finally {
    opened?.close();
  }
}

/** @param {IDBDatabase} opened @param {IDBTransactionMode} mode @param {Work} work @returns {Promise<any[]>} */
function done(opened, mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = opened.transaction(OBJECTS, mode, { durability: "strict" });
    /** @param {() => void} part */
    const attempt = (part) => {
      try {
        part();
      } catch (error) {
        reject(error);
        transaction.abort();
      }
    };
    const requests = work((name) => transaction.objectStore(name), attempt);
    transaction.oncomplete = () => resolve(requests.map((request) => request.result));
    transaction.onabort = () => reject(transaction.error);
  });
}

/** @param {string} database @returns {Promise<IDBDatabase>} */
function open(database) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(database, VERSION);
    request.onupgradeneeded = () => {
      const { result } = request;
      for (const name of OBJECTS) if (!result.objectStoreNames.contains(name)) result.createObjectStore(name);
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
