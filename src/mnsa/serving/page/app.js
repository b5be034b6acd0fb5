// The page: photos come in, are answered one after the other, and are shown. Nothing is kept once it is closed.
import { askFor, askModel } from "./ask.js";
import { addressOf, bytesOf, overlay } from "./pictures.js";
import { at, fit, layer, make, percent, prepare, show, showTraits, zoom } from "./show.js";
import { toCsv } from "./table.js";
import { zip } from "./zip.js";

const page = { model: null, leaves: [], chosen: null, busy: false, stop: new AbortController() };

async function start() {
  wire();
  const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  at("privacy").textContent = `Photos go to ${here ? "this computer" : location.hostname} alone and are not kept.`;
  try {
    page.model = await askModel();
    prepare(page.model);
  } catch (error) {
    at("model").textContent = `The server can't be reached. ${error.message}`;
  }
}

function wire() {
  at("files").addEventListener("change", ({ target }) => {
    add(target.files);
    target.value = "";
  });
  for (const kind of ["dragover", "drop", "dragleave"]) document.addEventListener(kind, drag);
  document.addEventListener("paste", ({ clipboardData }) => add(clipboardData.files));
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", layer);
  at("opacity").addEventListener("input", layer);
  at("zoom-in").addEventListener("click", () => zoom(1));
  at("zoom-out").addEventListener("click", () => zoom(-1));
  at("scale").addEventListener("input", () => page.chosen?.answer && showTraits(page.chosen.answer, scale()));
  at("leaves").addEventListener("keydown", walk);
  at("csv").addEventListener("click", () => save(new Blob([toCsv(ended(), scale())], { type: "text/csv" }), "predictions.csv"));
  at("zip").addEventListener("click", saveZip);
  at("clear").addEventListener("click", clear);
  window.addEventListener("resize", () => page.chosen?.answer && fit());
}

function drag(event) {
  event.preventDefault();
  document.body.classList.toggle("dragging", event.type === "dragover");
  if (event.type === "drop") add(event.dataTransfer.files);
}

function add(files) {
  for (const file of files) {
    const leaf = { file, name: file.name || "pasted image", answer: null, error: null, item: make("li") };
    leaf.button = make("button", "", { type: "button", className: "leaf" });
    leaf.button.addEventListener("click", () => choose(leaf));
    leaf.item.append(leaf.button);
    at("leaves").append(leaf.item);
    page.leaves.push(leaf);
    draw(leaf, "waiting");
  }
  if (!files.length) return;
  at("main").classList.remove("empty");
  at("work").hidden = false;
  count();
  if (!page.busy) work();
}

async function work() {
  const { stop } = page;
  page.busy = true;
  for (let leaf = next(); leaf; leaf = next()) {
    draw(leaf, "working");
    try {
      take(leaf, await askFor(leaf.file, page.model?.limits, stop.signal));
    } catch (error) {
      if (stop.signal.aborted) return;
      leaf.error = error.message;
    }
    leaf.file = null;
    draw(leaf, leaf.error ? "failed" : "done");
    count(leaf);
    if (!page.chosen || page.chosen === leaf) choose(leaf);
  }
  page.busy = false;
}

function next() {
  return page.leaves.find((leaf) => !leaf.answer && !leaf.error);
}

function take(leaf, answer) {
  leaf.answer = answer;
  leaf.preview = addressOf(answer.preview, "image/jpeg");
  if (answer.mask) leaf.mask = addressOf(answer.mask.png, "image/png");
}

function draw(leaf, state) {
  const best = leaf.answer?.classes?.[0];
  const said = { waiting: "waiting", working: "being answered", failed: "no answer" }[state] ?? best?.name ?? "answered";
  const thumb = leaf.preview ? make("img", "", { className: "thumb", src: leaf.preview, alt: "" }) : make("span", "", { className: "thumb" });
  const what = make("span", "", { className: "what" });
  what.append(make("span", said, { className: "said" }), make("span", leaf.name, { className: "file", title: leaf.name }));
  leaf.button.className = `leaf ${state}`;
  leaf.button.replaceChildren(thumb, what, make("span", best ? percent(best.probability) : "", { className: "share" }));
}

function count(last) {
  const done = ended().length;
  const failed = page.leaves.filter((leaf) => leaf.error).length;
  Object.assign(at("progress"), { max: page.leaves.length, value: done });
  const trouble = failed ? `, ${failed} without an answer` : "";
  at("status").textContent = `${done} of ${page.leaves.length} answered${trouble}. ${last ? news(last) : ""}`;
  at("csv").disabled = at("zip").disabled = done < page.leaves.length || done === failed;
}

function news({ name, error, answer }) {
  if (error) return error.startsWith(name) ? error : `${name}: ${error}`;
  const best = answer.classes?.[0];
  return best ? `${name}: ${best.name}, ${percent(best.probability)}.` : "";
}

function ended() {
  return page.leaves.filter((leaf) => leaf.answer || leaf.error);
}

function choose(leaf) {
  page.chosen = leaf;
  for (const { button } of page.leaves) button.setAttribute("aria-current", button === leaf.button);
  return show(leaf, page.model, scale());
}

// the arrow keys walk through the photos
function walk(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const index = page.leaves.findIndex(({ button }) => button === document.activeElement);
  const leaf = step && page.leaves[index + step];
  if (!leaf) return;
  event.preventDefault();
  leaf.button.focus();
  choose(leaf);
}

function scale() {
  const { value, validity } = at("scale");
  return value !== "" && validity.valid ? Number(value) : null;
}

async function saveZip() {
  const files = [["predictions.csv", new TextEncoder().encode(toCsv(ended(), scale()))]];
  const taken = new Set();
  for (const { name, answer } of page.leaves) {
    if (!answer?.mask) continue;
    const stem = newName(name, taken);
    files.push([`masks/${stem}.png`, bytesOf(answer.mask.png)]);
    files.push([`overlays/${stem}.jpg`, await overlay(answer.preview, answer.mask.png)]);
  }
  save(zip(files), "predictions.zip");
}

function newName(name, taken) {
  const stem = name.replace(/\.[^.]*$/, "").replace(/[/\\:*?"<>|]/g, "_").replace(/^[ .]+|[ .]+$/g, "") || "image";
  let free = stem;
  for (let number = 2; taken.has(free.toLowerCase()); number += 1) free = `${stem}-${number}`;
  taken.add(free.toLowerCase());
  return free;
}

function save(blob, name) {
  const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function clear() {
  page.stop.abort();
  for (const { preview, mask } of page.leaves) for (const address of [preview, mask]) if (address) URL.revokeObjectURL(address);
  Object.assign(page, { leaves: [], chosen: null, busy: false, stop: new AbortController() });
  at("leaves").replaceChildren();
  at("work").hidden = at("answer").hidden = true;
  at("main").classList.add("empty");
  at("files").focus();
}

start();
