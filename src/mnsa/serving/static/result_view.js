// Shows the result of one photo: the image with a layer over it, classes and traits.
import { drawAttention } from "./images.js";
import { convertTraits, formatNumber, formatPercent, keyTraits } from "./trait_format.js";
import { setImageSize } from "./zoom.js";

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
  byId("details").hidden = !result;
  byId("viewer").hidden = photo.error !== null;
  byId("photo-size").textContent = result ? describeSize(result) : "";
  if (!result) {
    showWaiting(photo);
    return;
  }
  showClasses(result);
  showTraits(result, pxPerMm);
  showLegend(result, model);
  byId("photo").src = photo.previewUrl;
  byId("mask").src = photo.maskUrl ?? "";
  byId("layer-choice").hidden = byId("slider").hidden = false;
  setImageSize(result.width, result.height);
  if (result.attention) await drawAttention(byId("attention"), result.attention);
  offerLayers(result);
  updateLayer();
}

function describeSize({ width, height, shrink_factor: factor, seconds }) {
  const shrunk = factor < 1 ? `, predicted at ${Math.round(width * factor)} × ${Math.round(height * factor)} px` : "";
  return `${width} × ${height} px${shrunk}, ${seconds.toFixed(2)} s`;
}

// The photo itself, until its result comes. A browser can't show every format, such as TIFF.
function showWaiting(photo) {
  for (const id of ["mask", "attention", "legend", "attention-legend", "layer-choice", "slider"]) byId(id).hidden = true;
  byId("viewport").setAttribute("aria-label", photo.name);
  const image = byId("photo");
  image.onload = () => {
    if (image.src === photo.localUrl) setImageSize(image.naturalWidth, image.naturalHeight);
  };
  image.onerror = () => {
    if (image.src === photo.localUrl) byId("viewer").hidden = true;
  };
  if (!photo.error) image.src = photo.localUrl;
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
  byId("attention-legend").hidden = chosen !== "attention";
  const maskName = byId("mask-label").textContent.toLowerCase();
  const suffix = { mask: ` with ${maskName} mask`, attention: " with attention map", photo: "" }[chosen];
  byId("viewport").setAttribute("aria-label", byId("photo-name").textContent + suffix);
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
