// The answers as a table: the columns that `mnsa predict` writes.
import { inUnits } from "./traits.js";

const FORMULA = /^[=+\-@\t\r]/; // spreadsheets run what begins so

/** CSV text of all leaves; a photo that couldn't be answered has its reason in the last column. */
export function toCsv(leaves, pxPerMm) {
  const rows = leaves.map((leaf) => ({ image: label(leaf.name), ...values(leaf, pxPerMm), error: leaf.error ?? "" }));
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)).filter((name) => name !== "error")), "error"];
  const lines = [columns, ...rows.map((row) => columns.map((name) => row[name] ?? ""))];
  return lines.map((line) => line.map(cell).join(",") + "\n").join("");
}

function values({ answer }, pxPerMm) {
  if (!answer) return {};
  const row = {};
  if (answer.classes) {
    row.class = answer.classes[0].name;
    row.probability = answer.classes[0].probability.toFixed(4);
    row.top5 = answer.classes.map(({ name, probability }) => `${name} ${probability.toFixed(4)}`).join("; ");
  }
  for (const { name, fraction } of answer.mask?.areas ?? []) row[`area_fraction_${name}`] = fraction.toFixed(6);
  return { ...row, ...Object.fromEntries(inUnits(answer.traits, pxPerMm)) };
}

function label(name) {
  return FORMULA.test(name) ? `'${name}` : name;
}

function cell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
