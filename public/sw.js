// Keeps the page's files, so that it opens while the server is away. Nothing else passes it: what is neither the page nor one of
// its files is left to the browser.

// The build writes both.
const VERSION = "";
const FILES = [];

const PREFIX = "glimpse-";
const CACHE = PREFIX + VERSION;
/** How long the page itself may take, where it is kept. */
const PATIENCE_MS = 2000;

const home = new URL("./", location).pathname;
/** What never changes under its name; scripts/page.sh and trunk give such names. */
const isHashed = (file) => /-[0-9a-f]{8,}(_bg)?\.(js|wasm|css)$/.test(file);

const install = async () => {
  const cache = await caches.open(CACHE);
  const add = async (file) => {
    const kept = isHashed(file) && (await caches.match(home + file));
    const response = kept || (await fetch(home + file, { cache: "no-cache" }));
    if (!response.ok) throw new Error(`${file}: ${response.status}`);
    await cache.put(home + file, response);
  };
  await Promise.all(FILES.map(add));
};

/** Drops what other builds have left, but for those of which a page is open: each holds a lock by its build's name. */
const tidy = async () => {
  const { held } = await navigator.locks.query();
  const used = held.map((lock) => lock.name);
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE && !used.includes(name));
  await Promise.all(old.map((name) => caches.delete(name)));
};

const kept = (file) => caches.open(CACHE).then((cache) => cache.match(home + file));

/** From the server, or as it is kept where that is gone or takes too long. */
const fresh = async (request, file) => {
  const answer = fetch(request).then((response) => (response.status < 500 ? response : Promise.reject(response)));
  const late = new Promise((done) => setTimeout(done, PATIENCE_MS)).then(() => kept(file)).then((response) => response ?? answer);
  return Promise.race([answer, late]).catch(async (failed) => (await kept(file)) ?? (failed instanceof Response ? failed : Response.error()));
};

/** As any build has kept it: a page of an older one is still given its own files. */
const unchanging = async (request) => (await caches.match(request)) ?? fetch(request);

addEventListener("install", (event) => event.waitUntil(install()));
addEventListener("activate", (event) => event.waitUntil(tidy()));
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
    if (request.mode === "navigate") event.waitUntil(tidy());
  }
});
