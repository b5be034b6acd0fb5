// The page that corrects masks: vein pen, brush, eraser, undo, and saving.

import { MaskCanvas } from "./mask_canvas.js";
import { photoPoint, resizeImage, setImageSize, startZoom } from "./zoom.js";

const byId = (id) => document.getElementById(id);
const info = JSON.parse(byId("info").textContent);
const TOOLS = { v: "vein", b: "brush", e: "eraser", h: "move" };
const mask = new MaskCanvas(byId("mask"), info.classes, showState);
let images = [];
let current = -1; // index of the image
let loading = 0; // number of the latest request for an image
let stroke = null; // the last point of a brush stroke, and its pointer
let veinStart = null; // where the vein goes on
let searching = false; // a path is being asked for

const tool = () => document.querySelector("[name=tool]:checked").value;
const classValue = () => (tool() === "eraser" ? 0 : Number(byId("class").value));
const className = () => info.classes.find((one) => one.value === Number(byId("class").value)).name;
const width = () => Number(byId("width").value);

async function start() {
  startZoom();
  const frame = byId("frame");
  const options = { capture: true }; // before the viewport zooms or moves
  frame.addEventListener("pointerdown", onDown, options);
  frame.addEventListener("pointermove", onMove, options);
  for (const type of ["pointerup", "pointercancel"]) frame.addEventListener(type, onUp, options);
  frame.addEventListener("dblclick", onDoubleClick, options);
  document.addEventListener("keydown", onKey);
  for (const id of ["width", "opacity"]) byId(id).addEventListener("input", showControls);
  byId("tools").addEventListener("change", showControls);
  byId("undo").addEventListener("click", () => step("undo"));
  byId("redo").addEventListener("click", () => step("redo"));
  byId("save").addEventListener("click", save);
  window.addEventListener("resize", resizeImage);
  window.addEventListener("beforeunload", (event) => mask.isChanged && event.preventDefault());
  showControls();
  await guarded(async () => {
    images = await (await request("annotations")).json();
    showImages();
    await open(Math.max(0, images.findIndex(({ mask: path }) => !path)));
  });
}

async function request(url, options) {
  const response = await fetch(url, options).catch(() => {
    throw new Error("The server can't be reached. Is it still running?");
  });
  if (response.ok) return response;
  const { detail } = await response.json().catch(() => ({}));
  throw new Error(typeof detail === "string" ? detail : `The server responded with status ${response.status}.`);
}

/** Run a step that may fail, and show its error. */
async function guarded(run) {
  byId("error").hidden = true;
  try {
    return await run();
  } catch (error) {
    byId("error").textContent = error.message;
    byId("error").hidden = false;
    return null;
  }
}

async function open(index) {
  if (index < 0 || index >= images.length || index === current) return;
  if (mask.isChanged && !window.confirm("Leave this image without saving its mask?")) return;
  const number = ++loading;
  current = index;
  mask.clear();
  endVein();
  showImages();
  byId("image-name").textContent = images[index].image;
  say("The network looks at the image…");
  await guarded(async () => {
    const [photo, response] = await Promise.all(["image", "mask"].map((part) => request(`annotations/${index}/${part}`)));
    const [blob, values] = [await photo.blob(), new Uint8Array(await response.arrayBuffer())];
    if (number !== loading) return; // another image was chosen meanwhile
    showPhoto(blob);
    const [columns, rows] = response.headers.get("Mask-Size").split(" ").map(Number);
    mask.load(values, columns, rows);
    byId("draft").setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    setImageSize(columns, rows);
    say(images[index].mask ? "This is the saved mask." : "This is the network's mask. Correct it, then save it.");
  });
}

function showPhoto(blob) {
  const photo = byId("photo");
  URL.revokeObjectURL(photo.src);
  photo.src = URL.createObjectURL(blob);
}

async function save() {
  if (!mask.isLoaded) return;
  const index = current;
  const saved = mask.version;
  await guarded(async () => {
    const headers = { "Content-Type": "application/octet-stream" };
    const response = await request(`annotations/${index}/mask`, { method: "PUT", body: mask.values, headers });
    images[index].mask = (await response.json()).mask;
    if (index === current) mask.markSaved(saved);
    showImages();
    say(`Saved as ${images[index].mask}.`);
  });
}

function onDown(event) {
  if (event.target.closest(".zoom")) return;
  if (stroke && event.pointerId !== stroke.pointerId) { // a second finger: zoom instead
    mask.cancel();
    stroke = null;
    return;
  }
  if (tool() === "move" || event.button !== 0 || !mask.isLoaded) return;
  event.stopPropagation();
  byId("viewport").focus({ preventScroll: true });
  const point = photoPoint(event);
  if (!point) return;
  if (tool() === "vein") {
    addToVein(point);
    return;
  }
  byId("frame").setPointerCapture(event.pointerId);
  mask.begin();
  stroke = { ...point, pointerId: event.pointerId };
  mask.line(point, point, width(), classValue());
}

function onMove(event) {
  if (stroke && event.pointerId === stroke.pointerId) {
    event.stopPropagation();
    for (const one of event.getCoalescedEvents?.() ?? [event]) {
      const point = photoPoint(one);
      if (point) {
        mask.line(stroke, point, width(), classValue());
        Object.assign(stroke, point);
      }
    }
  } else if (veinStart && !searching && event.pointerType === "mouse") {
    const point = photoPoint(event);
    if (point) showDraft(point);
  }
}

function onUp(event) {
  if (!stroke || event.pointerId !== stroke.pointerId) return;
  stroke = null;
  mask.commit();
}

function onDoubleClick(event) {
  if (event.target.closest(".zoom") || tool() === "move") return;
  event.stopPropagation();
  endVein();
}

async function addToVein(point) {
  const before = veinStart;
  veinStart = point;
  if (!before) {
    say("Click on along the vein. Esc or a double click ends it.");
    return;
  }
  const index = current;
  const line = await guarded(() => findPath(before, point));
  if (!line || index !== current) return;
  mask.begin();
  line.slice(1).forEach((pixel, n) => mask.line(toPoint(line[n]), toPoint(pixel), width(), classValue()));
  mask.commit();
  drawDraft([]);
}

const toPoint = ([x, y]) => ({ x: x + 0.5, y: y + 0.5 });

async function findPath(from, to) {
  const ends = { start: [from.x, from.y], end: [to.x, to.y], class: className() };
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify(ends);
  return (await request(`annotations/${current}/path`, { method: "POST", body, headers })).json();
}

async function showDraft(point) {
  const from = veinStart;
  searching = true;
  const line = await findPath(from, point).catch(() => []);
  searching = false;
  if (from === veinStart) drawDraft(line);
}

function drawDraft(line) {
  byId("draft").firstElementChild.setAttribute("points", line.map(([x, y]) => `${x + 0.5},${y + 0.5}`).join(" "));
}

function endVein() {
  veinStart = null;
  drawDraft([]);
}

function step(direction) {
  endVein();
  mask[direction]();
}

function onKey(event) {
  const key = event.key.toLowerCase();
  if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
    event.preventDefault();
    step(key === "y" || event.shiftKey ? "redo" : "undo");
    return;
  }
  if ((event.ctrlKey || event.metaKey) && key === "s") {
    event.preventDefault();
    save();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=range]")) return;
  if (TOOLS[key]) {
    document.querySelector(`[name=tool][value=${TOOLS[key]}]`).checked = true;
    showControls();
  } else if (key === "[" || key === "]") {
    byId("width").value = width() + (key === "[" ? -1 : 1);
    showControls();
  } else if (key === "escape") endVein();
  else if (key === "s") save();
  else if (key === "n") open(current + 1);
  else if (key === "p") open(current - 1);
}

function showControls() {
  if (tool() !== "vein") endVein();
  byId("width-value").textContent = `${width()} px`;
  byId("opacity-value").textContent = `${byId("opacity").value} %`;
  byId("mask").style.opacity = byId("opacity").value / 100;
  byId("viewport").classList.toggle("drawing", tool() !== "move");
}

function showState() {
  byId("undo").disabled = !mask.canUndo;
  byId("redo").disabled = !mask.canRedo;
  byId("save").disabled = !mask.isLoaded;
  byId("save").textContent = mask.isChanged ? "Save*" : "Save";
}

function showImages() {
  const items = images.map(({ image, mask: path }, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "photo-item";
    button.setAttribute("aria-current", index === current);
    const name = Object.assign(document.createElement("span"), { className: "photo-text", textContent: image });
    const mark = Object.assign(document.createElement("span"), { className: "mark", textContent: path ? "✓" : "" });
    mark.setAttribute("aria-label", path ? "has a mask" : "");
    button.append(name, mark);
    button.addEventListener("click", () => open(index));
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
  byId("images").replaceChildren(...items);
  byId("images").children[current]?.scrollIntoView({ block: "nearest" });
  byId("saved-count").textContent = `${images.filter(({ mask: path }) => path).length} of ${images.length} have a mask`;
}

function say(text) {
  byId("status").textContent = text;
}

start();
