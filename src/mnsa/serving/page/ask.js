// Talks to the server: one photo per request, again after a while when its queue is full.

const PARTS = ["classes", "mask", "attention", "traits", "preview"];
const TRIES = 60;

/** What the server says of itself. */
export async function askModel() {
  const response = await fetch("v1/model");
  if (!response.ok) throw new Error(`The server answered ${response.status}.`);
  return response.json();
}

/** The answer for one file. Throws an Error whose message says why there is none. */
export async function askFor(file, limits, signal) {
  if (limits && file.size + 2000 > limits.max_bytes) {
    throw new Error(`The file is larger than ${Math.floor(limits.max_bytes / 2 ** 20)} MiB, which is this server's limit.`);
  }
  const query = new URLSearchParams(PARTS.map((part) => ["include", part]));
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    const form = new FormData();
    form.append("images", file, file.name);
    const response = await send(`v1/predict?${query}`, { method: "POST", body: form, signal });
    if (response.status !== 429) return read(response);
    await pause(Number(response.headers.get("Retry-After")) || 2, signal);
  }
  throw new Error("The server is busy. Try again later.");
}

async function send(address, options) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server can't be reached, or the file can't be read.", { cause: error });
  }
}

async function read(response) {
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(said.detail ?? `The server answered ${response.status}.`);
  return said.results[0];
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
