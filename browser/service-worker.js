// Keeps the site for visits without a network. `VERSION` and `FILES` stand before this, written by space/static.py.
const CACHE = `age-gender-${VERSION}`;

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((path) => new Request(path, {cache: "reload"})))));
});

self.addEventListener("activate", (event) => {
  const clear = async () => Promise.all((await caches.keys()).filter((name) => name !== CACHE).map((name) => caches.delete(name)));
  event.waitUntil(clear().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const address = new URL(event.request.url);
  if (address.origin === location.origin && event.request.method === "GET") event.respondWith(answer(event.request, address));
});

async function answer(request, address) {
  const cache = await caches.open(CACHE);
  // A tab's link is the same page.
  const found = await cache.match(request.mode === "navigate" ? "./" : request, {ignoreSearch: true});
  if (found) return isolated(found);
  const response = await fetch(request);
  if (response.ok && address.pathname.includes("/models/")) cache.put(request, response.clone());  // loaded on demand
  return isolated(response);
}

/** With the headers that allow WebAssembly threads, which few static servers send. */
function isolated(response) {
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  headers.set("Cross-Origin-Resource-Policy", "same-origin");
  return new Response(response.body, {status: response.status, statusText: response.statusText, headers});
}
