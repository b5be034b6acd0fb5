// The page: photos are added, predicted one after the other, shown, and exported. Results are lost when it is closed.
import { exportFiles, predictImage } from "./api.js";
import { objectUrl } from "./images.js";
import { byId, createElement, showPhoto, showTraits, updateLayer } from "./result_view.js";
import { readScale, startScale, stopMeasuring } from "./scale.js";
import { formatPercent } from "./trait_format.js";
import { resizeImage, startZoom } from "./zoom.js";

const model = JSON.parse(byId("model").textContent);
const page = { photos: [], selected: null, running: false, abort: new AbortController() };

function start() {
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  byId("privacy").textContent = `Photos are sent only to ${local ? "this computer" : location.hostname} and are not stored.`;
  byId("files").addEventListener("change", ({ target }) => {
    addPhotos(target.files);
    target.value = "";
  });
  for (const type of ["dragover", "drop", "dragleave"]) document.addEventListener(type, onDrag);
  document.addEventListener("paste", ({ clipboardData }) => addPhotos(clipboardData.files));
  for (const radio of document.querySelectorAll("input[name=layer]")) radio.addEventListener("change", updateLayer);
  byId("opacity").addEventListener("input", updateLayer);
  startZoom();
  startScale(() => page.selected?.result && showTraits(page.selected.result, readScale()));
  setInterval(updateTimer, 200);
  byId("photo-list").addEventListener("keydown", onArrowKey);
  for (const format of ["csv", "zip"]) byId(format).addEventListener("click", () => download(format));
  byId("clear").addEventListener("click", clearPhotos);
  window.addEventListener("resize", () => page.selected && resizeImage());
}

function onDrag(event) {
  event.preventDefault();
  document.body.classList.toggle("dragging", event.type === "dragover");
  if (event.type === "drop") addPhotos(event.dataTransfer.files);
}

function addPhotos(files) {
  for (const file of files) {
    const photo = { file, name: file.name || "pasted image", result: null, error: null, started: null };
    photo.localUrl = URL.createObjectURL(file);
    photo.button = createElement("button", "", { type: "button", className: "photo-item" });
    photo.button.addEventListener("click", () => {
      selectPhoto(photo);
      revealResult();
    });
    const item = createElement("li");
    item.append(photo.button);
    byId("photo-list").append(item);
    page.photos.push(photo);
    updateListItem(photo, "waiting");
  }
  if (!files.length) return;
  byId("main").classList.remove("empty");
  byId("progress-panel").hidden = false;
  updateProgress();
  if (!page.running) predictPhotos();
  if (!page.selected) selectPhoto(page.photos[0]);
}

async function predictPhotos() {
  const { signal } = page.abort;
  page.running = true;
  for (let photo = nextPhoto(); photo; photo = nextPhoto()) {
    updateListItem(photo, "running");
    photo.started = performance.now();
    try {
      setResult(photo, await predictImage(photo.file, model, signal));
    } catch (error) {
      if (signal.aborted) return;
      photo.error = error.message;
    }
    photo.file = null; // frees the memory
    photo.started = null;
    updateListItem(photo, photo.error ? "failed" : "done");
    updateProgress(describe(photo));
    if (page.selected === photo) {
      await selectPhoto(photo);
      if (page.photos.length === 1) revealResult();
    }
    URL.revokeObjectURL(photo.localUrl);
    photo.localUrl = null;
  }
  page.running = false;
}

function nextPhoto() {
  return page.photos.find((photo) => !photo.result && !photo.error);
}

function setResult(photo, result) {
  photo.result = result;
  photo.previewUrl = objectUrl(result.preview, "image/jpeg");
  if (result.mask) photo.maskUrl = objectUrl(result.mask.png, "image/png");
}

function updateListItem(photo, state) {
  const { result } = photo;
  const label = { waiting: "waiting", running: "in progress", failed: "failed", done: result?.predicted ?? "done" }[state];
  const url = photo.previewUrl ?? photo.localUrl;
  const thumbnail = url && state !== "failed"
    ? createElement("img", "", { className: "thumbnail", src: url, alt: "" })
    : createElement("span", "", { className: "thumbnail" });
  const text = createElement("span", "", { className: "photo-text" });
  text.append(
    createElement("span", label, { className: "predicted" }),
    createElement("span", photo.name, { className: "file-name", title: photo.name }),
  );
  const best = result?.classes?.[0];
  const percent = createElement("span", best ? formatPercent(best.probability) : "", { className: "probability" });
  photo.button.className = `photo-item ${state}`;
  photo.button.replaceChildren(thumbnail, text, percent);
}

function updateProgress(message = "") {
  const finished = page.photos.filter((photo) => photo.result || photo.error).length;
  const failed = page.photos.filter((photo) => photo.error).length;
  Object.assign(byId("progress"), { max: page.photos.length, value: finished });
  const failures = failed ? `, ${failed} failed` : "";
  byId("status").textContent = `${finished} of ${page.photos.length} finished${failures}. ${message}`;
  byId("csv").disabled = byId("zip").disabled = finished < page.photos.length || finished === failed;
}

function describe({ name, error, result }) {
  if (error) return error.startsWith(name) ? error : `${name}: ${error}`;
  const best = result.classes?.[0];
  return best ? `${name}: ${result.predicted}, ${formatPercent(best.probability)}.` : "";
}

function selectPhoto(photo) {
  page.selected = photo;
  for (const { button } of page.photos) button.setAttribute("aria-current", button === photo.button);
  stopMeasuring();
  return showPhoto(photo, model, readScale());
}

// On a phone the result is below the list.
function revealResult() {
  const { top } = byId("result").getBoundingClientRect();
  const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
  if (top > window.innerHeight * 0.6) byId("result").scrollIntoView({ behavior, block: "start" });
}

// Seconds since the selected photo was sent.
function updateTimer() {
  const photo = page.selected;
  if (!photo || photo.result || photo.error) return;
  const seconds = photo.started ? Math.floor((performance.now() - photo.started) / 1000) : null;
  byId("photo-size").textContent = seconds === null ? "waiting" : `in progress: ${seconds} s`;
}

function onArrowKey(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const index = page.photos.findIndex(({ button }) => button === document.activeElement);
  const photo = step && page.photos[index + step];
  if (!photo) return;
  event.preventDefault();
  photo.button.focus();
  selectPhoto(photo);
}

async function download(format) {
  const { signal } = page.abort;
  updateProgress(`Preparing the ${format.toUpperCase()} file.`);
  byId("csv").disabled = byId("zip").disabled = true;
  try {
    const items = page.photos.map((photo) => exportItem(photo, format));
    const blobs = await exportFiles(format, items, readScale(), model.limits, signal);
    blobs.forEach((blob, index) => {
      saveFile(blob, blobs.length === 1 ? `predictions.${format}` : `predictions-${index + 1}.${format}`);
    });
    updateProgress();
  } catch (error) {
    if (!signal.aborted) updateProgress(error.message);
  }
}

function exportItem({ name, error, result }, format) {
  if (!result) return { row: { image: name, error } };
  if (format === "csv" || !result.mask) return { row: result.row };
  return { row: result.row, mask: result.mask.png, preview: result.preview };
}

function saveFile(blob, name) {
  const link = createElement("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function clearPhotos() {
  page.abort.abort();
  for (const url of page.photos.flatMap((photo) => [photo.previewUrl, photo.maskUrl, photo.localUrl])) {
    if (url) URL.revokeObjectURL(url);
  }
  Object.assign(page, { photos: [], selected: null, running: false, abort: new AbortController() });
  byId("photo-list").replaceChildren();
  byId("progress-panel").hidden = byId("result").hidden = true;
  byId("main").classList.add("empty");
  byId("files").focus();
}

start();
