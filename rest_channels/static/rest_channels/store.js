/* Values that change, with the methods that React's `useSyncExternalStore` takes. */

/** Make a list of subscribers; an exception of one does not keep the call from others. */
export function createStore() {
  /** @type {Set<() => void>} */
  const subscribers = new Set();
  return {
    /** Call `callback` after each change, until the returned function is called. @param {() => void} callback */
    subscribe(callback) {
      const own = () => callback();
      subscribers.add(own);
      return () => void subscribers.delete(own);
    },

    notify() {
      for (const call of [...subscribers]) {
        try {
          call();
        } catch (error) {
          console.error(error);
        }
      }
    },
  };
}
