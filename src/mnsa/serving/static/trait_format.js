// Traits for display: conversion to millimeters, labels, and rounded numbers.

// unit in pixels, unit in millimeters, and the power of the scale that converts one to the other; longer suffixes first
const UNITS = [
  ["_px_per_px2", "_mm_per_mm2", 1],
  ["_px2", "_mm2", -2],
  ["_px", "_mm", -1],
];
const UNIT_SYMBOLS = { _px_per_px2: "px/px²", _mm_per_mm2: "mm/mm²", _px2: "px²", _mm2: "mm²", _px: "px", _mm: "mm" };
const KEY_TRAITS = [
  ["leaf_area", "leaf area"],
  ["leaf_length", "leaf length"],
  ["leaf_width", "leaf width"],
  ["leaf_circularity", "leaf circularity"],
  ["vein_density", "vein density"],
  ["vein_length", "vein length"],
  ["vein_width_mean", "mean vein width"],
  ["vein_distance_mean", "mean distance to a vein"],
  ["vein_area_fraction", "vein area fraction"],
  ["vein_branch_count", "branching points"],
  ["areole_count", "areoles"],
  ["areole_area_mean", "mean areole area"],
  ["lesion_count", "lesions"],
  ["lesion_area_fraction", "lesion area fraction"],
  ["lesion_area_mean", "mean lesion area"],
];

/** Columns and values of the traits of a result: in millimeters if a scale is given, otherwise unchanged. */
export function convertTraits(traits, pxPerMm) {
  return Object.entries(traits ?? {}).map(([column, value]) => {
    const unit = UNITS.find(([px]) => column.endsWith(px));
    if (!unit || !pxPerMm) return [column, value];
    const [px, mm, power] = unit;
    const converted = typeof value === "number" ? Number((value * pxPerMm ** power).toPrecision(6)) : value;
    return [column.slice(0, -px.length) + mm, converted];
  });
}

/** The traits to show first: [label, number, unit]. */
export function keyTraits(columns) {
  const traits = columns.map(([column, value]) => {
    const suffix = Object.keys(UNIT_SYMBOLS).find((end) => column.endsWith(end)) ?? "";
    return [column.slice(0, column.length - suffix.length), value, UNIT_SYMBOLS[suffix] ?? ""];
  });
  return KEY_TRAITS.flatMap(([name, label]) => {
    const trait = traits.find(([base]) => base === name);
    if (!trait) return [];
    const [, value, unit] = trait;
    if (name.endsWith("_fraction") && typeof value === "number") return [[label, formatNumber(value * 100), "%"]];
    return [[label, formatNumber(value), unit]];
  });
}

/** A number with three or four digits, or a dash if there is none. */
export function formatNumber(value) {
  if (typeof value !== "number") return value ?? "–";
  const decimals = Math.abs(value) >= 1000 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1)));
  return value.toLocaleString("en", { maximumFractionDigits: Number.isInteger(value) ? 0 : Math.min(decimals, 6) });
}

/** A probability or fraction as a percentage. */
export function formatPercent(fraction) {
  return `${(fraction * 100).toFixed(fraction < 0.1 ? 1 : 0)} %`;
}
