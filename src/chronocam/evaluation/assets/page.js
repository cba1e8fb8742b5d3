// An evaluation: a forest plot and curves of one measure at a time, and the samples at either end.
//
// The data, as evaluation/page.py writes it:
//   title, about, verdicts [text], notes [text], failures [text], colours base64 of 256 × RGB,
//   rows [{name, control, cost}], measures [{name, title, better, pooled, lines [{row, mean, low, high, count, difference, p}], curves [[number]] | null}],
//   agreement [[number]] per row, ends {measure: [[worst [sample], best [sample]] per row]},
//   samples [{name, target, confidence, picture JPEG, maps [{shape, bytes}], values {measure: [number]}}]

const palette = bytesOf(data.colours);
const COLOURS = ["var(--one)", "var(--two)", "var(--three)", "var(--up)", "var(--down)", "#a06cd5", "#b58900", "#2aa198", "#d33682"];
const colourOf = (k) => (data.rows[k].control ? "var(--four)" : COLOURS[k % COLOURS.length]);
const pictures = new Map();

byId("about").textContent = data.about;
const said = (texts) => texts.map((textContent) => element("li", { textContent }));
const unclear = data.verdicts.filter((text) => text.includes("cannot be told apart"));
byId("verdicts").append(...said(data.verdicts.filter((text) => !unclear.includes(text))));
byId("undecided").append(...said(unclear));
byId("more").hidden = !unclear.length;
byId("more").open = unclear.length < 6;
byId("count").textContent = `${unclear.length} ${unclear.length === 1 ? "comparison is" : "comparisons are"} undecided`;
byId("verdict").hidden = !data.verdicts.length;
byId("notes").append(...[...data.notes, ...data.failures].map((text) => element("li", { textContent: text })));
byId("remarks").hidden = !data.notes.length && !data.failures.length;
byId("row").append(...data.rows.map((row, k) => element("option", { value: k, textContent: row.name })));

const sense = { high: "higher is better", low: "lower is better" };
let now = data.measures[0];

function choose(measure) {
  now = measure;
  for (const button of byId("choice").children) button.setAttribute("aria-pressed", String(button.dataset.name === measure.name));
  byId("what").textContent = [measure.title, sense[measure.better]].filter(Boolean).join(" · ");
  byId("forest").replaceChildren(forest(measure));
  byId("curves").replaceChildren(...(measure.curves ? [curves(measure)] : []));
  byId("curves").hidden = !measure.curves;
  gallery();
  const url = new URL(location.href);
  url.hash = measure.name;
  history.replaceState(null, "", url);
}

function ticks(low, high) {
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step) found.push(+at.toFixed(10));
  return found;
}

function forest(measure) {
  const narrow = innerWidth < 640, left = narrow ? 120 : 190, right = narrow ? 12 : 205, width = narrow ? 380 : 800, step = 27, top = 8;
  const bounds = measure.lines.flatMap((line) => [line.low, line.high, line.mean]);
  let low = Math.min(...bounds), high = Math.max(...bounds);
  const room = (high - low) * 0.05 || 0.05;
  low -= room; high += room;
  const x = (value) => left + ((value - low) / (high - low)) * (width - left - right);
  const height = top + step * measure.lines.length;
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height + 26}`, role: "img", "aria-label": `${measure.title}: means with 95 % intervals` });
  for (const at of ticks(low, high)) {
    svg.append(svgElement("line", { class: "grid", x1: x(at), x2: x(at), y1: top, y2: height }));
    svg.append(svgElement("text", { class: "tick", x: x(at), y: height + 18, "text-anchor": "middle" }, numeral(at)));
  }
  const first = measure.lines.find((line) => line.row === 0);
  if (first) svg.append(svgElement("line", { class: "reference", x1: x(first.mean), x2: x(first.mean), y1: top, y2: height }));
  measure.lines.forEach((line, k) => {
    const y = top + step * (k + 0.5);
    const said = line.interval;
    svg.append(svgElement("g", { class: data.rows[line.row].control ? "control" : "" },
      svgElement("title", {}, `${data.rows[line.row].name}: ${said}, ${line.count} samples${line.difference ? `; to ${data.rows[0].name}: ${line.difference}, p = ${numeral(line.p)}` : ""}`),
      svgElement("text", { x: left - 12, y: y + 4, "text-anchor": "end" }, shortened(data.rows[line.row].name, narrow ? 15 : 28)),
      svgElement("line", { class: "bar", x1: x(line.low), x2: Math.max(x(line.high), x(line.low) + 0.01), y1: y, y2: y }),
      svgElement("circle", { class: "dot", cx: x(line.mean), cy: y, r: 5.5 }),
      ...(narrow ? [] : [svgElement("text", { class: "quiet", x: width - right + 12, y: y + 4 }, said)])));
  });
  return svg;
}

function shortened(name, most) {
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}

function curves(measure) {
  const narrow = innerWidth < 640, width = narrow ? 380 : 560, height = 300, left = 46, bottom = 34, right = narrow ? 124 : 150;
  const all = measure.curves.flat();
  const low = Math.min(0, ...all), high = Math.max(...all) * 1.05 || 1;
  const x = (share) => left + share * (width - left - right), y = (value) => (height - bottom) - ((value - low) / (high - low)) * (height - bottom - 8);
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${measure.title}: the mean curve of each method` });
  for (const at of ticks(low, high)) {
    svg.append(svgElement("line", { class: "grid", x1: left, x2: width - right, y1: y(at), y2: y(at) }));
    svg.append(svgElement("text", { class: "tick", x: left - 8, y: y(at) + 4, "text-anchor": "end" }, numeral(at)));
  }
  for (const share of [0, 0.5, 1]) svg.append(svgElement("text", { class: "tick", x: x(share), y: height - 12, "text-anchor": "middle" }, `${100 * share} %`));
  measure.curves.forEach((curve, k) => {
    if (!curve.length) return;
    const points = curve.map((value, i) => `${x(i / (curve.length - 1))},${y(value)}`).join(" ");
    const line = svgElement("polyline", { class: "line", points, "stroke-dasharray": data.rows[k].control ? "3 4" : "none" }, svgElement("title", {}, data.rows[k].name));
    line.style.stroke = colourOf(k);
    svg.append(line);
    const mark = svgElement("rect", { x: width - right + 14, y: 10 + 17 * k, width: 12, height: 3 });
    mark.style.fill = colourOf(k);
    svg.append(mark, svgElement("text", { class: data.rows[k].control ? "quiet" : "", x: width - right + 32, y: 15 + 17 * k }, shortened(data.rows[k].name, narrow ? 13 : 18)));
  });
  return svg;
}

function gallery() {
  const ends = data.ends[now.name]?.[Number(byId("row").value)];
  byId("gallery").hidden = !ends || !data.samples.some((sample) => sample.picture);
  if (byId("gallery").hidden) return;
  byId("ends").replaceChildren(...["worst", "best"].flatMap((name, side) => [
    element("h3", { textContent: name }),
    element("div", { className: "strip" }, ...ends[side].map((at) => thumbnail(at, Number(byId("row").value)))),
  ]));
}

function thumbnail(at, row) {
  const sample = data.samples[at];
  const button = element("button", { type: "button", "aria-label": `${sample.name}: ${sample.target}`, onclick: () => open(at) },
    drawn(sample, row),
    element("span", { className: "value", textContent: numeral(sample.values[now.name][row]) }),
    element("span", { className: "name", textContent: `${sample.target} · ${sample.name.split("/").pop()}`, title: sample.name }));
  return button;
}

function drawn(sample, row) {
  const canvas = element("canvas", { width: 128, height: 128 });
  pictureOf(sample).then((image) => {
    const map = sample.maps[row], context = canvas.getContext("2d");
    canvas.width = image ? image.width : 128;
    canvas.height = image ? image.height : 128;
    if (image) context.drawImage(image, 0, 0);
    if (!map || map.shape.length !== 2) return;
    const [height, width] = map.shape, bytes = bytesOf(map.bytes);
    const layer = element("canvas", { width, height }), pixels = new ImageData(width, height);
    bytes.forEach((value, i) => {
      for (let k = 0; k < 3; k++) pixels.data[4 * i + k] = palette[3 * value + k];
      pixels.data[4 * i + 3] = Math.round(0.75 * value);
    });
    layer.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  });
  return canvas;
}

async function pictureOf(sample) {
  if (!sample.picture) return null;
  if (!pictures.has(sample)) {
    const image = new Image();
    image.src = `data:image/jpeg;base64,${sample.picture}`;
    pictures.set(sample, image.decode().then(() => image));
  }
  return pictures.get(sample);
}

function open(at) {
  const sample = data.samples[at], sure = sample.confidence === null ? "" : `, ${percent(sample.confidence)}`;
  const close = element("button", { type: "button", textContent: "✕", "aria-label": "Close", onclick: () => byId("sample").close() });
  byId("sample").replaceChildren(
    element("div", { className: "top" }, element("h2", { textContent: `${sample.target}${sure} · ${sample.name}` }), element("span", { className: "push" }), close),
    element("div", { className: "strip" }, ...data.rows.map((row, k) => element("div", {},
      drawn(sample, k),
      element("div", { textContent: row.name }),
      element("div", { className: "quiet", textContent: data.measures.filter((one) => sample.values[one.name]).map((one) => `${one.title} ${numeral(sample.values[one.name][k])}`).join(" · ") })))));
  byId("sample").showModal();
}

function table() {
  const head = element("tr", {}, ...["Measure", "Method", "mean", "95 % interval", "to the first", "p", "samples", "forward passes"].map((textContent) => element("th", { textContent })));
  const lines = data.measures.flatMap((measure) => measure.lines.map((line) => {
    const row = data.rows[line.row];
    const [mean, ends] = line.interval.split(" [");
    const cells = [measure.title, row.name, mean, ends ? `[${ends}` : "–", line.difference ?? "–", numeral(line.p), line.count, numeral(row.cost)];
    return element("tr", { className: row.control ? "control" : "" }, ...cells.map((textContent) => element("td", { textContent })));
  }));
  byId("numbers").replaceChildren(element("thead", {}, head), element("tbody", {}, ...lines));
}

function alike() {
  const names = data.rows.map((row) => row.name);
  const head = element("tr", {}, element("th"), ...names.map((textContent) => element("th", { textContent })));
  byId("alike").append(element("thead", {}, head), element("tbody", {}, ...data.agreement.map((line, i) => element("tr", {},
    element("th", { textContent: names[i] }), ...line.map((value) => {
      const cell = element("td", { textContent: value === null ? "–" : value.toFixed(2).replace("-0.00", "0.00") });
      cell.style.background = `color-mix(in srgb, var(--accent) ${Math.round(55 * Math.max(value, 0))}%, transparent)`;
      return cell;
    })))));
}

byId("choice").append(...data.measures.map((measure) => {
  const button = element("button", { type: "button", textContent: measure.title, onclick: () => choose(measure) });
  button.dataset.name = measure.name;
  return button;
}));
byId("row").onchange = gallery;
matchMedia("(max-width: 640px)").onchange = () => choose(now);
byId("sample").onclick = (event) => { if (event.target === byId("sample")) byId("sample").close(); };
table();
alike();
if (data.measures.length) choose(data.measures.find((one) => `#${one.name}` === location.hash) ?? now);
