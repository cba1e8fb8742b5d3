"use strict";
// What every page needs: its data, elements, bytes, numbers, light and dark.
//
// The data of a page, as render/page/records.py writes it (a field in brackets may be missing):
//
//   page       title, links {index, previous, next: {href, name} | null} | null, colours {name: base64 of 256 × RGB}, theme {sequential, diverging, box}, items [PageItem | DriveItem]
//   PageItem   name, model, stills ShownStills | null, maps [ShownMap], sequences [ShownSequence], words [ShownWords]
//   DriveItem  PageItem and depth [JPEG], path ShownPath | null, notes [text]
//   ShownStills    frames [JPEG], count, size [height, width], seen [x0, y0, x1, y1], seconds | null, numbers | null, unit
//   ShownMap       label, first, method, layer, grid, findings, spans [[first, last]] | null, cubic, cells [rows, columns],
//                  thinned, centers [[y], [x]] | null, windows [[stride, low, high]] | null, input [height, width], signed [bool], gains [number],
//                  bytes [base64], targets [MapTarget | DriveOutput]
//   MapTarget      name, score, confidence, sentence, scale, range [low, high], [line] of a signal,
//                  [importance] per slice, [box x0, y0, x1, y1] in pixels of the input, [attention AttentionCurves]
//   AttentionCurves  weights, contributions, agreement
//   DriveOutput    name, score null, scores per moment, confidence null, sentence, scale, truth | null, unit | null
//   ShownPath      positions [[x, z]], truth | null, note
//   ShownSequence  label, method, findings, steps, features, bin, cells [steps, cells], peak, targets
//                  [SequenceTarget], settling ShownSettling | null, memory ShownMemory | null
//   SequenceTarget name, score, sentence, ledger {term: value}, bytes base64, by_step, top [[[feature, value]]] per step
//   ShownWords     label, method, layer, findings, picture JPEG | null, targets [WordsTarget]
//   WordsTarget    name, score, sentence, words [text], relevance [number], shares [number]
//   ShownSettling  steps, cosine, spearman, jaccard, settled, tolerance, chance
//   ShownMemory    lags, share, reach
//
// The data of an index, as report/index.py writes it: title, rows [Row]
//   Row        href, name, model, kind, method, class, score, confidence, sentence, findings [text], picture JPEG

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

// A text with its names in backticks as code.
function coded(text) {
  return text.split("`").map((part, i) => (i % 2 ? element("code", { textContent: part }) : part));
}

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

function numeral(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value), sign = value < 0 ? "−" : "";
  if (size === 0 || (size >= 1e-3 && size < 1e5)) return sign + String(+size.toPrecision(digits));
  const [digitsOf, power] = size.toExponential(digits - 1).split("e");
  return `${sign}${+digitsOf} × 10${[...String(Number(power))].map((one) => RAISED[one]).join("")}`;
}

// A share as a percentage that is easily read, as render/words.py writes it.
function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.01) return "< 0.01 %";
  if (value > 99.99 && value < 100) return "> 99.99 %";
  const digits = value === 0 || value === 100 ? 0 : value >= 99.95 ? 2 : value >= 99.5 ? 1 : value >= 10 ? 0 : value >= 1 ? 1 : 2;
  return `${value.toFixed(digits)} %`;
}

function clamped(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

byId("theme").onclick = () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" ||
    (document.documentElement.dataset.theme === undefined && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
};
