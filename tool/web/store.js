/** What models have learned, in IndexedDB: one record a name, written whole or not at all. */

import { PocketrecError } from "./model_file.js";

const OBJECTS = "learned", VERSION = 1;

/**
 * @typedef {object} Learned a record.
 * @property {string} items the hash of the items of the model.
 * @property {string} settings of the model, as JSON.
 * @property {Record<string, Float32Array | Int32Array>} tensors what its signature `save` gave.
 * @property {Date} saved when it was saved.
 * @property {unknown} about what the app wants to keep with it.
 */

/**
 * Keep a record, in one transaction, unless the one that is there is refused.
 * @param {string} database @param {string} name @param {Learned} record
 * @param {(there: Learned | undefined) => void} check throws where the record that is there may not be replaced.
 */
export function keep(database, name, record, check) {
  return transact(database, "readwrite", (objects) => {
    const there = objects.get(name);
    there.onsuccess = () => {
      check(there.result);
      objects.put(record, name);
    };
    return there;
  });
}

/** @param {string} database @param {string} name @returns {Promise<Learned | undefined>} */
export function find(database, name) {
  return transact(database, "readonly", (objects) => objects.get(name));
}

/** @param {string} database @param {string} name */
export function remove(database, name) {
  return transact(database, "readwrite", (objects) => objects.delete(name));
}

/**
 * @param {string} database @param {IDBTransactionMode} mode
 * @param {(objects: IDBObjectStore) => IDBRequest} work
 * @returns {Promise<any>} what the request that `work` returns has found, once everything is on the disk.
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
    throw new PocketrecError(`The browser cannot keep or read what was learned: ${error}`, {
      expected: full ? "room on the disk" : "a page that may use IndexedDB (private windows often may not)",
      todo: full ? "make room; nothing that was kept before is lost" : "go on without keeping, or use another window",
      cause: error,
    });
  } finally {
    opened?.close();
  }
}

/** @param {IDBDatabase} opened @param {IDBTransactionMode} mode @param {(objects: IDBObjectStore) => IDBRequest} work */
function done(opened, mode, work) {
  return new Promise((resolve, reject) => {
    const transaction = opened.transaction(OBJECTS, mode, { durability: "strict" });
    const request = work(transaction.objectStore(OBJECTS));
    const inner = request.onsuccess;
    request.onsuccess = (event) => {
      try {
        inner?.call(request, event);
      } catch (error) {
        reject(error);
        transaction.abort();
      }
    };
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

/** @param {string} database @returns {Promise<IDBDatabase>} */
function open(database) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(database, VERSION);
    request.onupgradeneeded = () => request.result.createObjectStore(OBJECTS);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
