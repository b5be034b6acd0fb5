// Requests to the server: one photo per request, and files made from the results.

const RESULT_PARTS = ["classes", "mask", "attention", "traits", "preview", "row"];
const MAX_ATTEMPTS = 60;
const FORM_OVERHEAD_BYTES = 2000;

/** Predict one image file. Throws an Error with a message for the user. */
export async function predictImage(file, { limits, page_max_side_px: maxSide }, signal) {
  if (file.size + FORM_OVERHEAD_BYTES > limits.max_bytes) {
    throw new Error(`The file is larger than ${Math.floor(limits.max_bytes / 2 ** 20)} MiB, the limit of this server.`);
  }
  const form = new FormData();
  form.append("images", file, file.name);
  const query = new URLSearchParams(RESULT_PARTS.map((part) => ["include", part]));
  if (maxSide) query.set("max_side_px", maxSide);
  const response = await post(`v1/predict?${query}`, { body: form, signal });
  return (await response.json()).results[0];
}

/** Get results as CSV or ZIP files. Several ZIP files if one request would be too large. Returns Blobs. */
export async function exportFiles(format, items, pxPerMm, limits, signal) {
  const query = new URLSearchParams({ format, ...(pxPerMm && { px_per_mm: pxPerMm }) });
  const blobs = [];
  for (const json of splitBySize(items.map((item) => JSON.stringify(item)), limits.max_bytes)) {
    const body = `{"items":[${json.join(",")}]}`;
    const response = await post(`v1/export?${query}`, { body, headers: { "Content-Type": "application/json" }, signal });
    blobs.push(await response.blob());
  }
  return blobs;
}

function splitBySize(texts, maxBytes) {
  const groups = [];
  let size = Infinity;
  for (const text of texts) {
    const bytes = new Blob([text]).size + 1;
    size += bytes;
    if (size > 0.9 * maxBytes) {
      groups.push([]);
      size = bytes;
    }
    groups.at(-1).push(text);
  }
  return groups;
}

// Sends a request again while the server's queue is full.
async function post(url, options) {
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
    const response = await send(url, { method: "POST", ...options });
    if (response.ok) return response;
    if (response.status !== 429) {
      const { detail } = await response.json().catch(() => ({}));
      throw new Error(detail ?? `The server responded with status ${response.status}.`);
    }
    await wait(Number(response.headers.get("Retry-After")) || 2, options.signal);
  }
  throw new Error("The server is busy. Try again later.");
}

async function send(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server can't be reached, or the file can't be read.", { cause: error });
  }
}

function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
