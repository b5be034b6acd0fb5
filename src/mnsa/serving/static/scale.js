// The scale in pixels per millimeter: typed, or measured by two clicks on a length that is known, such as a ruler's.
import { photoPoint } from "./zoom.js";

const LIMITS = [0.001, 100_000]; // from a satellite's to a microscope's
const byId = (id) => document.getElementById(id);
const measured = { points: null, pressed: { clientX: 0, clientY: 0 } };

/** A positive number written with a point or a comma; null for anything else. */
export function parseNumber(text) {
  return /^\d*[.,]?\d+$/.test(text.trim()) ? Number(text.trim().replace(",", ".")) || null : null;
}

/** The scale that is typed, in pixels per millimeter; null if there is none, or it can't be used. */
export function readScale() {
  const number = parseNumber(byId("scale").value);
  return number !== null && number >= LIMITS[0] && number <= LIMITS[1] ? number : null;
}

/** Watch the fields; `onChange` is called when the scale may have changed. */
export function startScale(onChange) {
  byId("scale").addEventListener("input", () => {
    const isWrong = byId("scale").value.trim() !== "" && readScale() === null;
    byId("scale").setAttribute("aria-invalid", isWrong);
    byId("scale-error").hidden = !isWrong;
    onChange();
  });
  byId("measure").addEventListener("click", () => (measured.points ? stop() : begin()));
  byId("viewport").addEventListener("pointerdown", (event) => {
    measured.pressed = event;
  });
  byId("viewport").addEventListener("click", onClick);
  byId("length").addEventListener("input", useLength);
}

/** Forget the points: another photo is shown. */
export function stopMeasuring() {
  if (measured.points) stop();
}

function begin() {
  measured.points = [];
  byId("viewport").classList.add("measuring");
  byId("measure").textContent = "Cancel";
  say("Click on the two ends of a known length in the photo.");
}

function stop() {
  measured.points = null;
  byId("viewport").classList.remove("measuring");
  byId("measure").textContent = "Measure in the photo";
  byId("length-label").hidden = true;
  byId("length").value = "";
  say("");
}

function onClick(event) {
  const { pressed } = measured;
  const wasDragged = Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > 4;
  const point = !wasDragged && measured.points && measured.points.length < 2 && photoPoint(event);
  if (!point) return;
  measured.points.push(point);
  if (measured.points.length < 2) {
    say("Now the other end.");
    return;
  }
  if (distance() < 5) {
    measured.points = [];
    say("The two ends are too close. Click on the first end again.");
    return;
  }
  byId("length-label").hidden = false;
  say(`${Math.round(distance())} pixels. How many millimeters are they?`);
  byId("length").focus();
}

function useLength() {
  const millimeters = parseNumber(byId("length").value);
  if (!millimeters) return;
  byId("scale").value = Number((distance() / millimeters).toPrecision(5));
  byId("scale").dispatchEvent(new Event("input"));
}

function distance() {
  const [one, other] = measured.points;
  return Math.hypot(one.x - other.x, one.y - other.y);
}

function say(text) {
  byId("measure-hint").textContent = text;
}
