// Zoom and pan of the photo: wheel, pinch, double click, buttons, keys + - 0, drag. The point under the pointer stays.

const MAX_ZOOM = 16;
const STEP = 1.5;
const view = { zoom: 1, width: 1, height: 1 };
const byId = (id) => document.getElementById(id);

/** Show an image of this size in pixels, whole. */
export function setImageSize(width, height) {
  Object.assign(view, { width, height, zoom: 1 });
  resizeImage();
}

/** Fit the image into the viewport, times the zoom. The viewport keeps its height, so that any point can stay. */
export function resizeImage() {
  const viewport = byId("viewport");
  const maxHeight = Math.min(window.innerHeight * 0.72, 860);
  const fitted = Math.min(viewport.offsetWidth / view.width, maxHeight / view.height);
  const factor = fitted * view.zoom;
  viewport.style.height = `${view.height * fitted}px`;
  Object.assign(byId("photo").style, { width: `${view.width * factor}px`, height: `${view.height * factor}px` });
  byId("zoom-value").textContent = `${Number(view.zoom.toFixed(1))}×`;
  byId("zoom-out").disabled = view.zoom === 1;
  byId("zoom-in").disabled = view.zoom === MAX_ZOOM;
}

/** The point of the photo, in its own pixels, at a point of the window; null beside the photo. */
export function photoPoint({ clientX, clientY }) {
  const box = byId("photo").getBoundingClientRect();
  const [x, y] = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
  return x >= 0 && y >= 0 && x <= 1 && y <= 1 ? { x: x * view.width, y: y * view.height } : null;
}

/** Make the viewport zoom and pan. */
export function startZoom() {
  const viewport = byId("viewport");
  viewport.addEventListener("wheel", onWheel, { passive: false });
  viewport.addEventListener("dblclick", (event) => {
    if (!viewport.classList.contains("measuring")) zoomAt(event.shiftKey ? 1 / 2 : 2, event);
  });
  viewport.addEventListener("keydown", onKey);
  viewport.addEventListener("pointerdown", onPointerDown);
  viewport.addEventListener("touchstart", onPinch, { passive: false });
  viewport.addEventListener("touchmove", onPinch, { passive: false });
  byId("zoom-in").addEventListener("click", () => zoomAt(STEP));
  byId("zoom-out").addEventListener("click", () => zoomAt(1 / STEP));
}

// Zooms by a factor around a point of the window, or around the middle of the viewport.
function zoomAt(factor, point = middle()) {
  const photo = byId("photo");
  const before = photo.getBoundingClientRect();
  const [x, y] = [(point.clientX - before.left) / before.width, (point.clientY - before.top) / before.height];
  const zoom = Math.min(MAX_ZOOM, Math.max(1, view.zoom * factor));
  view.zoom = Math.abs(zoom - 1) < 0.02 ? 1 : zoom;
  resizeImage();
  const after = photo.getBoundingClientRect();
  byId("viewport").scrollBy(after.left + x * after.width - point.clientX, after.top + y * after.height - point.clientY);
}

function middle() {
  const box = byId("viewport").getBoundingClientRect();
  return { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
}

function onWheel(event) {
  if (event.deltaY > 0 && view.zoom === 1 && !event.ctrlKey) return; // the page scrolls
  event.preventDefault();
  zoomAt(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / (event.ctrlKey ? 100 : 300)), event);
}

function onKey(event) {
  const factor = { "+": STEP, "=": STEP, "-": 1 / STEP, 0: 1 / view.zoom }[event.key];
  if (!factor || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  zoomAt(factor);
}

// A finger scrolls by itself; a mouse drags.
function onPointerDown(event) {
  const viewport = byId("viewport");
  if (event.pointerType !== "mouse" || event.button !== 0 || view.zoom === 1) return;
  event.preventDefault();
  viewport.focus({ preventScroll: true });
  viewport.setPointerCapture(event.pointerId);
  viewport.classList.add("dragged");
  const move = ({ movementX, movementY }) => viewport.scrollBy(-movementX, -movementY);
  viewport.addEventListener("pointermove", move);
  const end = () => {
    viewport.removeEventListener("pointermove", move);
    viewport.classList.remove("dragged");
  };
  for (const type of ["pointerup", "pointercancel"]) viewport.addEventListener(type, end, { once: true });
}

let pinch = null; // distance and middle of the two fingers

function onPinch(event) {
  if (event.touches.length !== 2) return;
  event.preventDefault();
  const [one, other] = event.touches;
  const before = event.type === "touchmove" && pinch;
  pinch = {
    distance: Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1,
    clientX: (one.clientX + other.clientX) / 2,
    clientY: (one.clientY + other.clientY) / 2,
  };
  if (!before) return;
  byId("viewport").scrollBy(before.clientX - pinch.clientX, before.clientY - pinch.clientY);
  zoomAt(pinch.distance / before.distance, pinch);
}
