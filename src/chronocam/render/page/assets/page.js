// The page: which sample, frame, map and look there is, and everything that changes them.

const look = { opacity: 0.7, colours: "auto", own: false, boxes: false, threshold: 0.15, background: "frames" };
const page = { item: null, panes: [], against: null, pictures: { frames: [], depth: [] }, frame: 0, sequences: [], path: null, player: null };

async function bitmaps(files) {
  return Promise.all((files || []).map((file) => createImageBitmap(new Blob([bytesOf(file)], { type: "image/jpeg" }))));
}

// Show a sample; view: the map, the target and the frame to begin with, where they are known.
async function open(index, view = {}) {
  if (page.player) page.player.pause();
  fields.clear();
  const item = (page.item = data.items[index]);
  Object.assign(page, { index, frame: 0, panes: [], against: null, path: null });
  byId("item").selectedIndex = index;
  byId("visual").hidden = !item.stills;
  byId("sequence").hidden = !item.sequences.length;
  byId("words").hidden = !item.words.length;
  byId("words").replaceChildren(...item.words.map(captions));
  page.sequences = item.sequences.map((entry) => new Relevance(entry, seek));
  byId("sequence").replaceChildren(...page.sequences.map((one) => one.element));
  await Promise.all(page.sequences.map((one) => one.choose(placeOf(view.target, one.entry.targets.map(({ name }) => name)) ?? 0)));
  if (item.stills) await openVisual(item, view);
  go(view.frame ?? (item.stills ? strongest() : 0));
  if (item.stills && view.frame === undefined) page.player.begin();
}

// The frame with most of the first map in it.
function strongest() {
  const { field } = page.panes[0], cells = field.rows * field.columns;
  const sums = Array.from({ length: field.frames }, (_, frame) =>
    field.values.subarray(frame * cells, (frame + 1) * cells).reduce((sum, value) => sum + Math.abs(value), 0));
  const most = Math.max(...sums);
  return most > 0 ? sums.indexOf(most) : sums.length >> 1; // of a map of zeros, the middle
}

async function openVisual(item, view) {
  page.pictures = { frames: await bitmaps(item.stills.frames), depth: await bitmaps(item.depth) };
  page.player = new Player(item, go, seek);
  page.path = item.path ? new Path(item.path, seek) : null;
  byId("path-card").hidden = !item.path;
  byId("path").replaceChildren(...(page.path ? [page.path.element] : []));
  byId("background-label").hidden = !page.pictures.depth.length;
  if (!page.pictures.depth.length) look.background = byId("background").value = "frames";
  byId("compare-label").hidden = !(item.maps.length > 1 || item.maps[0].targets.length > 1);
  byId("compare").checked = item.maps.length > 1 && !view.map;
  byId("slider").checked = false;
  const first = new Pane(item, "A", changed);
  first.map = placeOf(view.map, item.maps.map((map) => map.label)) ?? 0;
  first.target = placeOf(view.target, first.of.targets.map((one) => one.name)) ?? first.of.first;
  page.panes = [first];
  offerAgainst(item);
  await arrange();
}

// One pane, or two of which the second shows another map, or else another target.
async function arrange() {
  const { item } = page, first = page.panes[0];
  page.panes = [first];
  if (byId("compare").checked) page.panes.push(new Pane(item, "B", changed));
  byId("panes").replaceChildren(...page.panes.map((pane) => pane.element));
  await first.choose(first.map, first.target);
  if (page.panes[1]) {
    await (item.maps.length > 1 ? page.panes[1].choose(first.map ? 0 : 1, first.target) : page.panes[1].choose(0, first.target ? 0 : 1));
  }
  changed(first);
}

// What may lie on the left of the slider: the picture alone, or any map.
function offerAgainst(item) {
  const several = item.maps.length > 1;
  const every = item.maps.flatMap((map) => map.targets.map((one, target) => ({ map, target, name: several ? `${map.label}: ${one.name}` : one.name })));
  const select = byId("against");
  select.replaceChildren(...["the picture alone", ...every.map((one) => one.name)].map((text) => element("option", { textContent: text })));
  select.onchange = async () => {
    const one = every[select.selectedIndex - 1];
    page.against = byId("slider").checked ? { field: one ? await fieldOf(one.map, one.target) : null } : null;
    select.hidden = !page.against;
    redraw();
  };
}

function changed(pane) {
  if (page.panes.some((one) => !one.field)) return;
  page.player.of(page.panes);
  if (pane === page.panes[0]) showTargets();
  redraw();
}

function showTargets() {
  const { of, target, about } = page.panes[0];
  byId("sentence").textContent = about.sentence;
  byId("about").textContent = [data.items.length > 1 ? page.item.name : "", page.item.model].filter(Boolean).join(" · ");
  byId("targets").replaceChildren(...of.targets.map((one, i) => element("li", {}, chip(one, i, i === target, of.targets))));
  reveal(byId("targets"), target);
  const findings = [...of.findings, ...(page.item.notes || [])];
  byId("findings-card").hidden = !findings.length;
  byId("findings").replaceChildren(...findings.map((text) => element("li", {}, ...coded(text))));
}

// Scroll a list, and not the page, to one of its entries that is out of sight.
function reveal(list, which) {
  const box = list.getBoundingClientRect(), own = list.children[which].getBoundingClientRect();
  if (own.top < box.top || own.bottom > box.bottom) list.scrollTop += own.top - box.top;
  if (own.left < box.left || own.right > box.right) list.scrollLeft += own.left - box.left;
}

// A target as a button with a bar: of its confidence, or else of its score beside the largest.
function chip(one, i, pressed, all) {
  const sure = one.confidence !== null, most = Math.max(...all.map(({ score }) => Math.abs(score ?? 0)), 1e-9);
  const share = sure ? one.confidence : Math.abs(one.score ?? 0) / most;
  const bar = element("i", { className: !sure && one.score < 0 ? "below" : "" });
  bar.style.width = `${100 * share}%`;
  const button = element("button", { type: "button", className: one.scores ? "bare" : "", "aria-pressed": String(pressed), title: one.scores ? one.name : `score ${numeral(one.score)}` },
    element("span", { className: "name", textContent: one.name, title: one.name }),
    element("small", { textContent: sure ? percent(one.confidence) : one.scores ? "" : numeral(one.score) }),
    element("span", { className: "meter", hidden: Boolean(one.scores) }, bar));
  button.onclick = () => page.panes[0].choose(page.panes[0].map, i);
  return button;
}

// The words of captions, each shaded by its relevance.
function captions(of) {
  const lines = of.targets.map((one) => element("p", { className: "caption", title: one.sentence },
    ...one.words.flatMap((text, i) => {
      const word = element("span", { className: "word", textContent: text, title: `${text}: ${numeral(one.relevance[i])}` });
      word.style.setProperty("--share", `${Math.round(100 * Math.abs(one.shares[i] ?? 0))}%`);
      return [word, " "];
    }),
    element("small", { textContent: `score ${numeral(one.score)}` })));
  const picture = of.picture && element("img", { src: `data:image/jpeg;base64,${of.picture}`, alt: page.item.name });
  const findings = of.findings.map((text) => element("p", { className: "quiet" }, ...coded(text)));
  return element("div", { className: "card" }, element("h2", { textContent: `Words · ${of.method}` }), picture || null, ...lines, ...findings);
}

function steps() {
  if (!page.item.stills && !page.sequences.length) return 1; // words alone
  return page.item.stills ? page.item.stills.count : Math.max(...page.sequences.map((one) => one.entry.steps));
}

// Go to a frame because the reader wants it: what plays stops.
function seek(frame) {
  if (page.player) page.player.pause();
  go(frame);
}

function go(frame) {
  page.frame = clamped(frame, 0, steps() - 1);
  page.sequences.forEach((one) => one.show(page.frame));
  if (page.item.stills) redraw();
  else writeView();
}

function redraw() {
  const begin = performance.now();
  const { frame, panes, player, pictures, path, against } = page;
  panes.forEach((pane) => { pane.frame = frame; pane.draw(frame, pictures[look.background], look, panes.length === 1 ? against : null); });
  player.show(frame);
  if (path) path.mark(frame);
  page.took = performance.now() - begin;
  byId("status").textContent = player.playing ? "" : status();
  if (!player.playing) writeView();
}

function status() {
  const { about, of } = page.panes[0], { spans } = of, { unit } = page.item.stills;
  if (!spans || !about.importance) return "";
  const slices = spans.flatMap(([a, b], i) => (a <= page.frame && page.frame <= b ? [i] : []));
  const sentences = slices.map((i) => {
    const [a, b] = spans[i], share = `${numeral(100 * about.importance[i], 2)} % of the evidence for ${about.name}`;
    return a === b ? `${unit} ${a} holds ${share}` : `${unit}s ${a}–${b} hold ${share}`;
  });
  return `At ${unit} ${page.frame}: ${sentences.join("; ")}.`;
}

function slice(by) {
  const spans = page.panes[0]?.of.spans;
  if (!spans) return seek(page.frame + by);
  const here = spans.findIndex(([a, b]) => a <= page.frame && page.frame <= b);
  const [a, b] = spans[clamped(here + by, 0, spans.length - 1)];
  seek(Math.floor((a + b) / 2));
}

function target(i) {
  const pane = page.panes[0];
  if (pane) pane.choose(pane.map, i);
  else page.sequences.forEach((one) => one.choose(i));
}

function chosenTarget() {
  return page.panes[0] ? page.panes[0].target : page.sequences[0]?.target ?? 0;
}

function click(id) {
  byId(id).click();
}

// The next or the previous sample, or the page beyond the last or the first.
function leaf(by) {
  const next = page.index + by;
  if (data.items[next]) return open(next);
  const link = data.links && (by > 0 ? data.links.next : data.links.previous);
  if (link) location.href = link.href;
}

const KEYS = {
  ArrowLeft: (event) => (event.shiftKey ? slice(-1) : seek(page.frame - 1)),
  ArrowRight: (event) => (event.shiftKey ? slice(1) : seek(page.frame + 1)),
  ArrowUp: () => target(chosenTarget() - 1),
  ArrowDown: () => target(chosenTarget() + 1),
  Home: () => seek(0),
  End: () => seek(steps() - 1),
  " ": () => page.item.stills && steps() > 1 && page.player.toggle(),
  m: () => page.panes[0] && page.panes[0].choose((page.panes[0].map + 1) % page.item.maps.length, page.panes[0].target),
  c: () => {
    byId("colours").selectedIndex = (byId("colours").selectedIndex + 1) % byId("colours").options.length;
    byId("colours").onchange();
  },
  b: () => click("boxes"),
  o: () => click("own"),
  s: () => page.panes[0] && !byId("compare-label").hidden && click("compare"),
  x: () => page.panes[0] && click("slider"),
  n: () => leaf(1),
  p: () => leaf(-1),
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
      byId("threshold-text").textContent = `${Math.round(100 * look.threshold)} % of its peak`;
      byId("threshold-label").hidden = !look.boxes;
      if (page.panes.length) redraw();
    };
  };
  byId("colours").replaceChildren(element("option", { value: "auto", textContent: "automatic" }),
    ...Object.keys(data.colours).map((name) => element("option", { value: name, textContent: name })));
  control("opacity", "opacity", (input) => Number(input.value));
  control("colours", "colours", (input) => input.value);
  control("own", "own", (input) => input.checked);
  control("boxes", "boxes", (input) => input.checked);
  control("threshold", "threshold", (input) => Number(input.value));
  control("background", "background", (input) => input.value);
  byId("threshold").onchange();
  // The surer a detection is, the smaller the gradient of its score: maps of boxes share no scale.
  const boxed = ({ targets }) => targets.some(({ box }) => box);
  look.own = byId("own").checked = data.items.some(({ maps }) => maps.some(boxed));
  // The slider lies over a single picture, so that one of the two switches the other off.
  byId("compare").onchange = () => {
    if (byId("compare").checked && byId("slider").checked) click("slider");
    return arrange();
  };
  byId("slider").onchange = async () => {
    if (byId("slider").checked && byId("compare").checked) click("compare");
    await byId("against").onchange();
  };
  byId("help").onclick = () => {
    byId("keys").hidden = !byId("keys").hidden;
    byId("help").setAttribute("aria-expanded", String(!byId("keys").hidden));
  };
  byId("item-label").hidden = data.items.length < 2;
  byId("item").replaceChildren(...data.items.map((item) => element("option", { textContent: item.name })));
  byId("item").onchange = () => open(byId("item").selectedIndex);
  linkTo(data.links);
}

// Links to the index, and to the pages before and after.
function linkTo(links) {
  byId("links").hidden = !links;
  if (!links) return;
  const words = { index: () => "All results", previous: ({ name }) => `‹ ${name}`, next: ({ name }) => `${name} ›` };
  byId("links").replaceChildren(...Object.entries(words).flatMap(([kind, text]) =>
    (links[kind] ? [element("a", { href: links[kind].href, className: kind, textContent: text(links[kind]) })] : [])));
}

function openAddress() {
  const view = viewInAddress();
  return open(clamped(view.sample, 0, data.items.length - 1), view);
}

wire();
addEventListener("hashchange", openAddress);
openAddress();
