// The sum a form asks for while it is attacked: ALTCHA's open protocol, version 2 (PBKDF2). Done in a worker, or, where the page's
// policy allows none, by the browser's own threads from here. A page without https cannot do it and sends without.

const bytes = (hex) => Uint8Array.from(hex.match(/../g) || [], (pair) => parseInt(pair, 16));
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

const search = async ({ parameters, signature }) => {
  const began = performance.now();
  const { algorithm, nonce, salt, cost, keyLength, keyPrefix } = parameters;
  const password = new Uint8Array([...bytes(nonce), 0, 0, 0, 0]);
  const rule = { name: "PBKDF2", hash: algorithm.split("/")[1], salt: bytes(salt), iterations: cost };
  for (let counter = 0; ; counter++) {
    new DataView(password.buffer).setUint32(password.length - 4, counter);
    const key = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
    const derivedKey = hex(await crypto.subtle.deriveBits(rule, key, keyLength * 8));
    if (!derivedKey.startsWith(keyPrefix)) continue;
    const solution = { counter, derivedKey, time: performance.now() - began };
    return btoa(JSON.stringify({ challenge: { parameters, signature }, solution }));
  }
};

const elsewhere = (challenge) => new Promise((done, fail) => {
  const start = new Blob([`import ${JSON.stringify(import.meta.url)}`], { type: "text/javascript" });
  const worker = new Worker(URL.createObjectURL(start), { type: "module" });
  worker.onerror = fail;
  worker.onmessage = ({ data }) => {
    if (data === "ready") return worker.postMessage(challenge);
    worker.terminate();
    done(data);
  };
});

// Resolves to the solution as the form sends it, or to nothing where no sum can be done.
export const solve = (challenge) => crypto.subtle && elsewhere(challenge).catch(() => search(challenge));

if (typeof WorkerGlobalScope !== "undefined") {
  onmessage = async ({ data }) => postMessage(await search(data));
  postMessage("ready");
}
