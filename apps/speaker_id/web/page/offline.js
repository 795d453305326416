// Keeps the page's files, so that it works without its server. While that answers, the files are always its own.
const CACHE = "streamdrnn";

async function keepAll() {
  const { files } = await (await fetch("setup.json")).json();
  await (await caches.open(CACHE)).addAll(["./", "setup.json", ...files]);
}

async function answer(request) {
  try {
    const found = await fetch(request);
    if (found.ok) await (await caches.open(CACHE)).put(request, found.clone());
    return found;
  } catch (error) {
    const kept = await caches.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}

addEventListener("install", (event) => event.waitUntil(keepAll()));
addEventListener("fetch", (event) => {
  if (event.request.method === "GET") event.respondWith(answer(event.request));
});
