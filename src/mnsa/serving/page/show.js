// The answer for one photo: picture with overlay, classes, traits.
import { drawAttention } from "./pictures.js";
import { headline, inUnits, short } from "./traits.js";

const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const view = { zoom: 0, fit: 1, shape: [1, 1] };
export const at = (id) => document.getElementById(id);

/** Make an element: tag, text, attributes. */
export function make(tag, text = "", attributes = {}) {
  const element = Object.assign(document.createElement(tag), attributes);
  if (text !== "") element.textContent = text;
  return element;
}

/** A share as a person reads it. */
export function percent(share) {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Fit the page to what the network can do. */
export function prepare({ name, version, classes, mask_classes: masks, traits }) {
  const names = masks.map((mask) => mask.name);
  const tasks = [];
  if (classes.length) tasks.push(`${classes.length} classes`);
  if (masks.length) tasks.push(masks.length === 1 ? `${names[0]} masks` : `masks of ${names.join(", ")}`);
  at("model").textContent = `${name}: ${tasks.join(", ")}`;
  at("version").textContent = `mnsa ${version}`;
  at("mask-name").textContent = at("gives-mask-name").textContent = masks.length === 1 ? capital(names[0]) : "Mask";
  at("class-count").textContent = `${classes.length} classes`;
  at("known-classes").textContent = classes.join(", ");
  at("classes-part").hidden = at("gives-class").hidden = at("known").hidden = !classes.length;
  at("gives-mask").hidden = !masks.length;
  at("traits-part").hidden = at("gives-traits").hidden = !traits.length;
}

/** Show a leaf, whatever is known of it. */
export async function show(leaf, model, pxPerMm) {
  const { answer } = leaf;
  at("answer").hidden = false;
  at("name").textContent = leaf.name;
  at("fault").hidden = !leaf.error;
  at("fault").textContent = leaf.error ?? "";
  at("seen").hidden = at("facts").hidden = !answer;
  at("size").textContent = answer ? `${answer.width} × ${answer.height} px, ${answer.seconds.toFixed(2)} s` : "";
  if (!answer) return;
  showClasses(answer);
  showTraits(answer, pxPerMm);
  showLegend(answer, model);
  at("photo").src = leaf.preview;
  at("mask").src = leaf.mask ?? "";
  view.shape = [answer.width, answer.height];
  fit();
  if (answer.attention) await drawAttention(at("attention"), answer.attention);
  for (const radio of at("views").elements) {
    if (radio.type === "radio") radio.disabled = radio.value !== "photo" && !answer[radio.value];
    if (radio.type === "radio") radio.parentElement.hidden = radio.disabled;
  }
  if (document.querySelector("input[name=view]:checked").disabled) {
    document.querySelector("input[name=view]:enabled").checked = true;
  }
  layer();
}

/** Put the chosen layer over the photo, as strong as the slider says. */
export function layer() {
  const chosen = document.querySelector("input[name=view]:checked").value;
  const opacity = at("opacity");
  at("opacity-value").textContent = `${opacity.value} %`;
  opacity.disabled = chosen === "photo";
  for (const name of ["mask", "attention"]) {
    at(name).style.opacity = opacity.value / 100;
    at(name).hidden = name !== chosen;
  }
  at("legend").hidden = chosen !== "mask";
  const over = { mask: ` with its ${at("mask-name").textContent.toLowerCase()}`, attention: " with the attention map", photo: "" };
  at("stage").setAttribute("aria-label", `${at("name").textContent}${over[chosen]}`);
}

/** Zoom one step in (1) or out (-1). */
export function zoom(step) {
  view.zoom = Math.min(ZOOMS.length - 1, Math.max(0, view.zoom + step));
  fit();
}

/** Let the picture fill its place, times the zoom. */
export function fit() {
  const stage = at("stage");
  const [width, height] = view.shape;
  const tallest = Math.min(window.innerHeight * 0.72, 860);
  view.fit = Math.min(stage.clientWidth / width, tallest / height);
  const factor = view.fit * ZOOMS[view.zoom];
  Object.assign(at("photo").style, { width: `${width * factor}px`, height: `${height * factor}px` });
  at("zoom-value").textContent = `${ZOOMS[view.zoom]}×`;
  at("zoom-out").disabled = view.zoom === 0;
  at("zoom-in").disabled = view.zoom === ZOOMS.length - 1;
}

/** Show the traits in the units of the scale. */
export function showTraits(answer, pxPerMm) {
  const columns = inUnits(answer.traits, pxPerMm);
  at("headline").replaceChildren(
    ...headline(columns).map(([words, value, unit]) => {
      const number = make("dd", value);
      if (unit) number.append(make("small", unit));
      const tile = make("div");
      tile.append(make("dt", words), number);
      return tile;
    }),
  );
  at("traits").replaceChildren(
    ...columns.map(([column, value]) => {
      const row = make("tr");
      row.append(make("td", column), make("td", value ?? "–"));
      return row;
    }),
  );
}

function showClasses(answer) {
  at("classes").replaceChildren(
    ...(answer.classes ?? []).map(({ name, probability }) => {
      const bar = make("span", "", { className: "bar", ariaHidden: "true" });
      bar.append(make("i"));
      bar.firstChild.style.width = `${probability * 100}%`;
      const item = make("li");
      item.append(make("span", name, { className: "name" }), " ", make("span", percent(probability), { className: "share" }), bar);
      return item;
    }),
  );
}

function showLegend(answer, model) {
  const colors = Object.fromEntries(model.mask_classes.map(({ value, color }) => [value, color]));
  at("legend").replaceChildren(
    ...(answer.mask?.areas ?? []).map(({ name, value, fraction }) => {
      const swatch = make("i", "", { ariaHidden: "true" });
      swatch.style.background = colors[value] ?? "transparent";
      const item = make("li");
      item.append(swatch, `${name} `, make("b", `${short(fraction * 100)} %`), " of the picture");
      return item;
    }),
  );
}

function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
