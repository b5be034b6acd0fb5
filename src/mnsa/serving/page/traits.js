// Traits as they come are in pixels. Here they get a scale, and words for those that most people look for first.

// unit, the same in millimetres, and the power of the scale that turns one into the other; longer endings first
const UNITS = [
  ["_px_per_px2", "_mm_per_mm2", 1],
  ["_px2", "_mm2", -2],
  ["_px", "_mm", -1],
];
const SIGNS = { _px_per_px2: "px/px²", _mm_per_mm2: "mm/mm²", _px2: "px²", _mm2: "mm²", _px: "px", _mm: "mm" };
const FIRST = [
  ["leaf_area", "leaf area"],
  ["leaf_length", "leaf length"],
  ["leaf_width", "leaf width"],
  ["leaf_circularity", "leaf circularity"],
  ["vein_density", "vein length per area"],
  ["vein_length", "vein length in all"],
  ["vein_width_mean", "vein width, mean"],
  ["vein_distance_mean", "distance to a vein, mean"],
  ["vein_area_fraction", "veins' share of area"],
  ["vein_branch_count", "branching points"],
  ["areole_count", "areoles"],
  ["areole_area_mean", "areole area, mean"],
  ["lesion_count", "lesions"],
  ["lesion_area_fraction", "lesions' share of the leaf"],
  ["lesion_area_mean", "lesion area, mean"],
];

/** Columns and values of an answer's traits: in millimetres when there is a scale, otherwise as they are. */
export function inUnits(traits, pxPerMm) {
  return Object.entries(traits ?? {}).map(([column, value]) => {
    const unit = UNITS.find(([px]) => column.endsWith(px));
    if (!unit || !pxPerMm) return [column, value];
    const [px, mm, power] = unit;
    const scaled = typeof value === "number" ? Number((value * pxPerMm ** power).toPrecision(6)) : value;
    return [column.slice(0, -px.length) + mm, scaled];
  });
}

/** The traits to show first: [words, number, unit]. */
export function headline(columns) {
  const split = columns.map(([column, value]) => {
    const ending = Object.keys(SIGNS).find((end) => column.endsWith(end)) ?? "";
    return [column.slice(0, column.length - ending.length), value, SIGNS[ending] ?? ""];
  });
  return FIRST.flatMap(([name, words]) => {
    const found = split.find(([base]) => base === name);
    if (!found) return [];
    const [, value, unit] = found;
    if (name.endsWith("_fraction") && typeof value === "number") return [[words, short(value * 100), "%"]];
    return [[words, short(value), unit]];
  });
}

/** A number for people: three or four digits; a dash where there is none. */
export function short(value) {
  if (typeof value !== "number") return value ?? "–";
  const digits = Math.abs(value) >= 1000 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return value.toLocaleString("en", { maximumFractionDigits: Number.isInteger(value) ? 0 : Math.min(digits, 6) });
}
