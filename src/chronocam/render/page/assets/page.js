// The page: which sample, frame, map and look there is, and everything that changes them.

const look = { opacity: 0.7, colours: "auto", own: false, boxes: false, threshold: 0.15, background: "frames" };
const page = { item: null, panes: [], pictures: { frames: [], depth: [] }, frame: 0, sequences: [], path: null, player: null };

async function bitmaps(files) {
  return Promise.all((files || []).map((file) => createImageBitmap(new Blob([bytesOf(file)], { type: "image/jpeg" }))));
}

async function open(index) {
  if (page.player) page.player.pause();
  fields.clear();
  const item = (page.item = data.items[index]);
  Object.assign(page, { index, frame: 0, panes: [], path: null });
  byId("item").selectedIndex = index;
  byId("about").textContent = [data.items.length > 1 ? item.name : "", item.model].filter(Boolean).join(" · ");
  byId("visual").hidden = !item.stills;
  byId("sequence").hidden = !item.sequences.length;
  page.sequences = item.sequences.map((entry) => new Relevance(entry, go));
  byId("sequence").replaceChildren(...page.sequences.map((one) => one.element));
  await Promise.all(page.sequences.map((one) => one.choose(0)));
  if (item.stills) await openVisual(item);
  go(item.stills ? strongest() : 0);
}

// The frame with most of the first map in it.
function strongest() {
  const { field } = page.panes[0], cells = field.rows * field.columns;
  const sums = Array.from({ length: field.frames }, (_, frame) =>
    field.values.subarray(frame * cells, (frame + 1) * cells).reduce((sum, value) => sum + Math.abs(value), 0));
  return sums.indexOf(Math.max(...sums));
}

async function openVisual(item) {
  page.pictures = { frames: await bitmaps(item.stills.frames), depth: await bitmaps(item.depth) };
  page.player = new Player(item, go);
  page.path = item.path ? new Path(item.path, go) : null;
  byId("path-card").hidden = !item.path;
  byId("path").replaceChildren(...(page.path ? [page.path.element] : []));
  byId("background-label").hidden = !page.pictures.depth.length;
  if (!page.pictures.depth.length) look.background = byId("background").value = "frames";
  const several = item.maps.length > 1 || item.maps[0].targets.length > 1;
  byId("compare-label").hidden = !several;
  byId("compare").checked = item.maps.length > 1;
  await arrange();
}

// One pane, or two of which the second shows another map, or else another target.
async function arrange() {
  const { item } = page, first = page.panes[0] ?? new Pane(item, "A", changed);
  page.panes = [first];
  if (byId("compare").checked) page.panes.push(new Pane(item, "B", changed));
  byId("panes").replaceChildren(...page.panes.map((pane) => pane.element));
  await first.choose(first.map, first.target);
  if (page.panes[1]) {
    await (item.maps.length > 1 ? page.panes[1].choose(first.map ? 0 : 1, first.target) : page.panes[1].choose(0, first.target ? 0 : 1));
  }
  changed(first);
}

function changed(pane) {
  if (page.panes.some((one) => !one.field)) return;
  page.player.of(page.panes);
  if (pane === page.panes[0]) showTargets();
  redraw();
}

function showTargets() {
  const { of, target } = page.panes[0];
  const most = Math.max(...of.targets.map((one) => Math.abs(one.score ?? 0)), 1e-9);
  byId("targets").replaceChildren(...of.targets.map((one, i) => element("li", {}, targetButton(one, i, i === target, most))));
  const findings = [...of.findings, ...(page.item.notes || [])];
  byId("findings").replaceChildren(...(findings.length ? findings : ["none"]).map((text) => element("li", { textContent: text })));
}

function targetButton(one, i, pressed, most) {
  const sure = one.confidence === null ? "" : `, confidence ${numeral(one.confidence)}`;
  const numbers = one.scores ? "" : `${numeral(one.score)}${sure}`;
  const bar = element("i");
  bar.className = one.score < 0 ? "below" : "";
  bar.style.width = `${(100 * Math.abs(one.score ?? 0)) / most}%`;
  const button = element("button", { type: "button", "aria-pressed": String(pressed) },
    element("span", { textContent: one.name }), element("small", { textContent: numbers }),
    element("span", { className: "meter", hidden: Boolean(one.scores) }, bar));
  button.onclick = () => page.panes[0].choose(page.panes[0].map, i);
  return button;
}

function steps() {
  return page.item.stills ? page.item.stills.count : Math.max(...page.sequences.map((one) => one.entry.steps));
}

function go(frame) {
  page.frame = clamped(frame, 0, steps() - 1);
  page.sequences.forEach((one) => one.show(page.frame));
  if (page.item.stills) redraw();
}

function redraw() {
  const begin = performance.now();
  const { frame, panes, player, pictures, path } = page;
  panes.forEach((pane) => { pane.frame = frame; pane.draw(frame, pictures[look.background], look); });
  player.show(frame);
  if (path) path.mark(frame);
  page.took = performance.now() - begin;
  if (!player.playing) byId("status").textContent = status();
}

function status() {
  const { about, of } = page.panes[0], spans = of.spans;
  if (!spans || !about.importance) return "";
  const slices = spans.flatMap(([a, b], i) => (a <= page.frame && page.frame <= b ? [i] : []));
  const sentences = slices.map((i) => `slice ${i + 1} (frames ${spans[i][0]}–${spans[i][1]}) holds ${numeral(100 * about.importance[i], 2)} % of the evidence for ${about.name}`);
  return `Frame ${page.frame}: ${sentences.join("; ")}.`;
}

function slice(by) {
  const spans = page.panes[0]?.of.spans;
  if (!spans) return go(page.frame + by);
  const here = spans.findIndex(([a, b]) => a <= page.frame && page.frame <= b);
  const [a, b] = spans[clamped(here + by, 0, spans.length - 1)];
  go(Math.floor((a + b) / 2));
}

function target(i) {
  const pane = page.panes[0];
  if (pane) pane.choose(pane.map, i);
  else page.sequences.forEach((one) => one.choose(i));
}

function chosenTarget() {
  return page.panes[0] ? page.panes[0].target : page.sequences[0].target;
}

function click(id) {
  byId(id).click();
}

const KEYS = {
  ArrowLeft: (event) => (event.shiftKey ? slice(-1) : go(page.frame - 1)),
  ArrowRight: (event) => (event.shiftKey ? slice(1) : go(page.frame + 1)),
  ArrowUp: () => target(chosenTarget() - 1),
  ArrowDown: () => target(chosenTarget() + 1),
  Home: () => go(0),
  End: () => go(steps() - 1),
  " ": () => page.item.stills && steps() > 1 && page.player.toggle(),
  m: () => page.panes[0] && page.panes[0].choose((page.panes[0].map + 1) % page.item.maps.length, page.panes[0].target),
  c: () => {
    byId("colours").selectedIndex = (byId("colours").selectedIndex + 1) % byId("colours").options.length;
    byId("colours").onchange();
  },
  b: () => click("boxes"),
  s: () => !byId("compare-label").hidden && click("compare"),
  n: () => page.index + 1 < data.items.length && open(page.index + 1),
  p: () => page.index > 0 && open(page.index - 1),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const tag = event.target.tagName, kind = event.target.type;
  if (tag === "SELECT" || (tag === "INPUT" && kind !== "checkbox" && event.target.id !== "frame")) return;
  if (event.key === " " && (tag === "BUTTON" || kind === "checkbox")) return;
  const act = /^[1-9]$/.test(event.key) ? () => target(Number(event.key) - 1) : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

function wire() {
  const control = (id, name, read) => {
    byId(id).oninput = byId(id).onchange = () => {
      look[name] = read(byId(id));
      byId("threshold-text").textContent = `${Math.round(100 * look.threshold)} % of the maximum`;
      if (page.panes.length) redraw();
    };
  };
  const named = ["auto", ...Object.keys(data.colours)];
  byId("colours").replaceChildren(...named.map((name) => element("option", { value: name, textContent: name })));
  control("opacity", "opacity", (input) => Number(input.value));
  control("colours", "colours", (input) => input.value);
  control("own", "own", (input) => input.checked);
  control("boxes", "boxes", (input) => input.checked);
  control("threshold", "threshold", (input) => Number(input.value));
  control("background", "background", (input) => input.value);
  byId("threshold").onchange();
  byId("compare").onchange = arrange;
  byId("help").onclick = () => {
    byId("keys").hidden = !byId("keys").hidden;
    byId("help").setAttribute("aria-expanded", String(!byId("keys").hidden));
  };
  byId("item-label").hidden = data.items.length < 2;
  byId("item").replaceChildren(...data.items.map((item) => element("option", { textContent: item.name })));
  byId("item").onchange = () => open(byId("item").selectedIndex);
}

wire();
open(clamped(Number(location.hash.slice(1)) - 1 || 0, 0, data.items.length - 1));
