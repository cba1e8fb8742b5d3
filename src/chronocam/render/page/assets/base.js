"use strict";
// What every page needs: its data, elements, bytes, numbers, light and dark.
//
// The data of a page, as render/page/records.py writes it (a field in brackets may be missing):
//
//   page       title, colours {name: base64 of 256 × RGB}, theme {sequential, diverging, box}, items [PageItem | DriveItem]
//   PageItem   name, model, stills ShownStills | null, maps [ShownMap], sequences [ShownSequence]
//   DriveItem  PageItem and depth [JPEG], path ShownPath | null, notes [text]
//   ShownStills    frames [JPEG], count, size [height, width], seen [x0, y0, x1, y1], seconds | null, numbers | null
//   ShownMap       label, method, layer, grid, findings, spans [[first, last]] | null, cubic, cells [rows, columns],
//                  thinned, centers [[y], [x]] | null, input [height, width], signed [bool], gains [number],
//                  bytes [base64], targets [MapTarget | DriveOutput]
//   MapTarget      name, score, confidence, range [low, high], [importance] per slice, [attention AttentionCurves]
//   AttentionCurves  weights, contributions, agreement
//   DriveOutput    name, score null, scores per moment, confidence null, truth | null, unit | null
//   ShownPath      positions [[x, z]], truth | null, note
//   ShownSequence  label, method, findings, steps, features, bin, cells [steps, cells], peak, targets
//                  [SequenceTarget], settling ShownSettling | null, memory ShownMemory | null
//   SequenceTarget name, score, ledger {term: value}, bytes base64, by_step, top [[[feature, value]]] per step
//   ShownSettling  steps, cosine, spearman, jaccard, settled, tolerance, chance
//   ShownMemory    lags, share, reach
//
// The data of an index, as report/index.py writes it: title, rows [Row]
//   Row        href, name, model, kind, method, class, score, confidence, findings [text], picture JPEG | null

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

function svgElement(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function numeral(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(digits - 1) : String(+value.toPrecision(digits));
}

function clamped(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

byId("theme").onclick = () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
};
