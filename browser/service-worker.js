// Keeps the site for visits without a network. `VERSION`, `FILES` and `MODELS` stand before this, written by space/hub/static.py.
// Caches are shared by all pages of a server: ours begin with our own address, and no other is read or deleted.
const OURS = `age-gender ${registration.scope} `;
const SITE = `${OURS}site ${VERSION}`,
  LATER = `${OURS}models`; // the files of one version; chosen models, under names with their hash

self.addEventListener("install", (event) => {
  self.skipWaiting();
  // "no-cache" asks whether what the browser has is still right. With a hash in its name, it is: no file is loaded twice.
  const request = (path) => new Request(path, {cache: /-[0-9a-f]{12}[./]/.test(path) ? "force-cache" : "no-cache"});
  event.waitUntil(caches.open(SITE).then((cache) => cache.addAll(FILES.map(request))));
});

self.addEventListener("activate", (event) => event.waitUntil(clear().then(() => self.clients.claim())));

async function clear() {
  const old = (await caches.keys()).filter((name) => name.startsWith(OURS) && ![SITE, LATER].includes(name));
  await Promise.all(old.map((name) => caches.delete(name)));
  const models = await caches.open(LATER);
  for (const request of await models.keys())
    if (!MODELS.some((folder) => request.url.includes(`/${folder}/`))) await models.delete(request);
}

self.addEventListener("fetch", (event) => {
  const {origin, pathname} = new URL(event.request.url),
    scope = new URL(registration.scope).pathname;
  if (origin !== location.origin || event.request.method !== "GET") return;
  // Other pages of this server are none of its business.
  if (event.request.mode === "navigate" && ![scope, `${scope}index.html`].includes(pathname)) return;
  event.respondWith(answer(event.request));
});

async function answer(request) {
  const page = request.mode === "navigate"; // a tab's link is the same page
  for (const name of [SITE, LATER]) {
    const found = await caches.match(page ? "./" : request, {ignoreSearch: page, cacheName: name});
    if (found) return isolated(found);
  }
  const response = await fetch(request);
  if (response.ok && MODELS.some((folder) => request.url.includes(`/${folder}/`))) {
    const copy = response.clone();
    caches
      .open(LATER)
      .then((cache) => cache.put(request, copy))
      .catch(() => {}); // the disk may be full
  }
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
