// Keeps the page's files, so that it opens while the server is away. Nothing else passes it: what is neither the page nor one of
// its files is left to the browser.

// The build writes both.
const VERSION = "";
const FILES = [];

const PREFIX = "glimpse-";
const CACHE = PREFIX + VERSION;
/** How long the page itself may take, where it is kept. */
const PATIENCE_MS = 2000;
/** How long nothing at all may come of what is kept nowhere: nothing that is asked for here waits without end. */
const SILENCE_MS = 30_000;

const home = new URL("./", location).pathname;
/** What never changes under its name; scripts/page.sh and trunk give such names. */
const isHashed = (file) => /-[0-9a-f]{8,}(_bg)?\.(js|wasm|css)$/.test(file);

/** What is promised, or a failure after so long. */
const within = (ms, promised) => {
  let timer;
  const late = new Promise((_, fail) => (timer = setTimeout(fail, ms, new Error("It took too long."))));
  return Promise.race([promised, late]).finally(() => clearTimeout(timer));
};

/** What the browser has, or nothing where it can't or does not say. */
const soon = (promised) => within(PATIENCE_MS, promised).catch(() => {});

/** From the server. It may take as long as something comes of it. */
const fetched = async (request, options) => {
  const stop = new AbortController();
  const lively = async (promised) => {
    try {
      return await within(SILENCE_MS, promised);
    } catch (failed) {
      stop.abort(failed);
      throw failed;
    }
  };
  const response = await lively(fetch(request, { ...options, signal: stop.signal }));
  const from = response.body?.getReader();
  if (!from) return response;
  const pull = async (to) => {
    const { done, value } = await lively(from.read());
    if (done) to.close();
    else to.enqueue(value);
  };
  return new Response(new ReadableStream({ pull, cancel: (why) => stop.abort(why) }), response);
};

const install = async () => {
  const cache = await caches.open(CACHE);
  const add = async (file) => {
    const kept = isHashed(file) && (await caches.match(home + file));
    const response = kept || (await fetched(home + file, { cache: "no-cache" }));
    if (!response.ok) throw new Error(`${file}: ${response.status}`);
    await cache.put(home + file, response);
  };
  await Promise.all(FILES.map(add));
};

/**
 * Drops what other builds have left, but for those of which a page is open: each holds a lock by its build's name. While another
 * build waits to take over, or comes, what it has kept is not left by it.
 */
const tidy = async () => {
  const { held } = await navigator.locks.query();
  const used = held.map((lock) => lock.name);
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE && !used.includes(name));
  if (registration.waiting || registration.installing) return;
  await Promise.all(old.map((name) => caches.delete(name)));
};

const kept = (file) => caches.open(CACHE).then((cache) => cache.match(home + file));

/** From the server, or as it is kept where that is gone or takes too long to say all of it. */
const fresh = async (request, file) => {
  const stop = new AbortController();
  const whole = async () => {
    // A navigation stays what it is only where nothing of it is set anew.
    const response = await fetch(request, request.mode === "navigate" ? undefined : { signal: stop.signal });
    if (response.status >= 500) throw response;
    await response.clone().arrayBuffer();
    return response;
  };
  const answer = whole();
  // What is waited for no more would hold up whoever asks for the same.
  const copy = async () => {
    const found = await kept(file).catch(() => {});
    if (!found) return answer;
    stop.abort();
    return found;
  };
  try {
    return await within(PATIENCE_MS, answer);
  } catch {
    // A browser that has much to do may be slow to say what it keeps, so that the server may still be first.
    return within(SILENCE_MS, Promise.any([answer, copy()])).catch(({ errors: [failed] = [] }) => {
      if (failed instanceof Response) return failed;
      stop.abort();
      return Response.error();
    });
  }
};

/** As any build has kept it: a page of an older one is still given its own files. */
const unchanging = async (request) => (await soon(caches.match(request))) ?? fetched(request);

addEventListener("install", (event) => event.waitUntil(install()));
// Until this is over it is asked for nothing.
addEventListener("activate", (event) => event.waitUntil(soon(tidy())));
// The person has said that the new build may take over.
addEventListener("message", (event) => event.data === "take over" && self.skipWaiting());
addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== location.origin || !pathname.startsWith(home)) return;
  const file = pathname.slice(home.length) || "index.html";
  if (isHashed(file)) {
    event.respondWith(unchanging(request));
  } else if (FILES.includes(file)) {
    event.respondWith(fresh(request, file));
    if (request.mode === "navigate") event.waitUntil(soon(tidy()));
  }
});
