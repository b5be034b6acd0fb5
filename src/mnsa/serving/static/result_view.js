// Shows the result of one photo: the image with a layer over it, classes and traits.
import { drawAttention } from "./images.js";
import { convertTraits, formatNumber, formatPercent, keyTraits } from "./trait_format.js";

const ZOOM_LEVELS = [1, 1.5, 2, 3, 4, 6, 8];
const view = { zoomIndex: 0, width: 1, height: 1 };

export const byId = (id) => document.getElementById(id);

/** Create an element with a text and properties. */
export function createElement(tag, text = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== "") element.textContent = text;
  return element;
}

/** Show a photo and its result or error. */
export async function showPhoto(photo, model, pxPerMm) {
  const { result } = photo;
  byId("result").hidden = false;
  byId("photo-name").textContent = photo.name;
  byId("error").hidden = !photo.error;
  byId("error").textContent = photo.error ?? "";
  byId("warning").hidden = !result?.warning;
  byId("warning").textContent = result?.warning ?? "";
  byId("viewer").hidden = byId("details").hidden = !result;
  byId("photo-size").textContent = result ? `${result.width} × ${result.height} px, ${result.seconds.toFixed(2)} s` : "";
  if (!result) return;
  showClasses(result);
  showTraits(result, pxPerMm);
  showLegend(result, model);
  byId("photo").src = photo.previewUrl;
  byId("mask").src = photo.maskUrl ?? "";
  Object.assign(view, { width: result.width, height: result.height });
  resizeImage();
  if (result.attention) await drawAttention(byId("attention"), result.attention);
  offerLayers(result);
  updateLayer();
}

/** Show the chosen layer over the photo, with the chosen opacity. */
export function updateLayer() {
  const chosen = document.querySelector("input[name=layer]:checked").value;
  const opacity = byId("opacity");
  byId("opacity-value").textContent = `${opacity.value} %`;
  opacity.disabled = chosen === "photo";
  for (const name of ["mask", "attention"]) {
    byId(name).style.opacity = opacity.value / 100;
    byId(name).hidden = name !== chosen;
  }
  byId("legend").hidden = chosen !== "mask";
  const maskName = byId("mask-label").textContent.toLowerCase();
  const suffix = { mask: ` with ${maskName} mask`, attention: " with attention map", photo: "" }[chosen];
  byId("viewport").setAttribute("aria-label", byId("photo-name").textContent + suffix);
}

/** Zoom in (step 1) or out (step -1). */
export function zoom(step) {
  view.zoomIndex = Math.min(ZOOM_LEVELS.length - 1, Math.max(0, view.zoomIndex + step));
  resizeImage();
}

/** Fit the image into the viewport, times the zoom. */
export function resizeImage() {
  const maxHeight = Math.min(window.innerHeight * 0.72, 860);
  const fit = Math.min(byId("viewport").clientWidth / view.width, maxHeight / view.height);
  const factor = fit * ZOOM_LEVELS[view.zoomIndex];
  Object.assign(byId("photo").style, { width: `${view.width * factor}px`, height: `${view.height * factor}px` });
  byId("zoom-value").textContent = `${ZOOM_LEVELS[view.zoomIndex]}×`;
  byId("zoom-out").disabled = view.zoomIndex === 0;
  byId("zoom-in").disabled = view.zoomIndex === ZOOM_LEVELS.length - 1;
}

/** Show the traits, in millimeters if a scale is given. */
export function showTraits(result, pxPerMm) {
  const columns = convertTraits(result.traits, pxPerMm);
  byId("key-traits").replaceChildren(
    ...keyTraits(columns).map(([label, value, unit]) => {
      const number = createElement("dd", value);
      if (unit) number.append(createElement("small", unit));
      const tile = createElement("div");
      tile.append(createElement("dt", label), number);
      return tile;
    }),
  );
  byId("all-traits").replaceChildren(
    ...columns.map(([column, value]) => {
      const row = createElement("tr");
      row.append(createElement("td", column), createElement("td", value ?? "–"));
      return row;
    }),
  );
}

function showClasses({ classes, predicted }) {
  const unknown = Boolean(classes) && predicted !== classes[0].name;
  byId("unknown-note").hidden = !unknown;
  byId("classes").classList.toggle("unknown", unknown);
  byId("classes").replaceChildren(
    ...(classes ?? []).map(({ name, probability }) => {
      const bar = createElement("span", "", { className: "bar", ariaHidden: "true" });
      bar.append(createElement("i"));
      bar.firstChild.style.width = `${probability * 100}%`;
      const item = createElement("li");
      const percent = createElement("span", formatPercent(probability), { className: "probability" });
      item.append(createElement("span", name, { className: "class-name" }), " ", percent, bar);
      return item;
    }),
  );
}

function showLegend(result, model) {
  const colors = Object.fromEntries(model.mask_classes.map(({ value, color }) => [value, color]));
  byId("legend").replaceChildren(
    ...(result.mask?.areas ?? []).map(({ name, value, fraction }) => {
      const swatch = createElement("i", "", { ariaHidden: "true" });
      swatch.style.background = colors[value] ?? "transparent";
      const item = createElement("li");
      item.append(swatch, `${name} `, createElement("b", `${formatNumber(fraction * 100)} %`), " of the image");
      return item;
    }),
  );
}

// Offers only the layers that the result has.
function offerLayers(result) {
  for (const radio of document.querySelectorAll("input[name=layer]")) {
    radio.disabled = radio.value !== "photo" && !result[radio.value];
    radio.parentElement.hidden = radio.disabled;
  }
  if (document.querySelector("input[name=layer]:checked").disabled) {
    document.querySelector("input[name=layer]:enabled").checked = true;
  }
}
