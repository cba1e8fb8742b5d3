// The index: a card for each page, sorted and filtered by what is known of it.

// What cards are sorted by: falling first where that is of use.
const ORDERS = [
  { name: "Name", by: (row) => row.name },
  { name: "Class", by: (row) => row.class },
  { name: "Confidence", by: (row) => row.confidence, falling: true },
  { name: "Score", by: (row) => row.score, falling: true },
  { name: "Findings", by: (row) => row.findings.length, falling: true },
];
const FIELDS = ["words", "class", "kind", "findings", "confidence", "score"];
const MANY = { picture: "pictures", clip: "clips", sequence: "sequences", drive: "drives", signal: "signals" };
const order = { by: null, down: false };

function card(row) {
  const sure = row.confidence !== null, bar = element("i");
  if (sure) bar.style.width = `${100 * row.confidence}%`;
  const picture = element("img", { alt: "", decoding: "async", loading: "lazy", src: `data:image/jpeg;base64,${row.picture}` });
  return element("a", { href: row.href, className: "result", "aria-label": `${row.name}: ${row.class}` },
    element("span", { className: "look" }, picture),
    element("span", { className: "words" },
      element("span", { className: "top" },
        element("span", { className: "class", textContent: row.class, title: row.class }),
        element("span", { className: "sure", textContent: sure ? percent(row.confidence) : numeral(row.score) })),
      element("span", { className: "meter", hidden: !sure }, bar),
      element("span", { className: "sentence", textContent: row.sentence }),
      element("span", { className: "name", textContent: row.name, title: row.name }),
      element("span", { className: "about", textContent: [row.kind, row.method, row.model].filter(Boolean).join(" · ") }),
      element("span", { className: "found", hidden: !row.findings.length, title: row.findings.join("\n") },
        ...coded(`Note: ${row.findings.join(" · ")}`))));
}

const rows = data.rows.map((row) => ({
  ...row, element: card(row),
  text: [row.name, row.class, row.model, row.kind, row.method, ...row.findings].join("\n").toLowerCase(),
}));
const hero = heroOf(rows);

// The result that speaks for all: the first picture or clip.
function heroOf(all) {
  return all.length < 3 ? null : all.find((row) => row.kind === "picture" || row.kind === "clip") ?? null;
}

const value = (id) => byId(id).value;

function matching() {
  const least = (id, of) => value(id) === "" || (of !== null && of >= Number(value(id)));
  const words = value("words").toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => words.every((word) => row.text.includes(word))
    && (!value("class") || row.class === value("class"))
    && (!value("kind") || row.kind === value("kind"))
    && (!value("findings") || (value("findings") === "some") === row.findings.length > 0)
    && least("score", row.score) && least("confidence", row.confidence));
}

function key(row) {
  const value = order.by.by(row);
  return typeof value === "string" ? value.toLowerCase() : value;
}

function compare(a, b) {
  const [x, y] = [key(a), key(b)];
  if (x === y) return 0;
  if (x === null || y === null) return x === null ? 1 : -1; // the unknown last, whichever way
  return (x < y ? -1 : 1) * (order.down ? -1 : 1);
}

function list() {
  const visible = matching(), whole = visible.length === rows.length;
  if (order.by) visible.sort(compare);
  else if (whole && hero) visible.unshift(...visible.splice(visible.indexOf(hero), 1));
  if (hero) hero.element.classList.toggle("hero", whole && !order.by);
  byId("rows").replaceChildren(...visible.map((row) => row.element));
  byId("count").textContent = whole ? `${rows.length} results` : `${visible.length} of ${rows.length}`;
  byId("whole").hidden = whole && !order.by;
  byId("sorting").querySelectorAll("button").forEach((button, i) => {
    const own = order.by === ORDERS[i];
    button.setAttribute("aria-pressed", String(own));
    button.textContent = ORDERS[i].name + (own ? (order.down ? " ▼" : " ▲") : "");
  });
  writeAddress();
}

function sortBy(one) {
  order.down = order.by === one ? !order.down : Boolean(one.falling);
  order.by = one;
  list();
}

function options(id, of) {
  const known = [...new Set(rows.map(of))].sort((a, b) => a.localeCompare(b));
  byId(`${id}-label`).hidden = known.length < 2;
  byId(id).replaceChildren(element("option", { value: "", textContent: "all" }),
    ...known.map((text) => element("option", { value: text, textContent: text })));
}

// The view in the address, so that it is there again after the way back from a page.
function writeAddress() {
  const words = new URLSearchParams(FIELDS.filter((id) => value(id)).map((id) => [id, value(id)]));
  if (order.by) words.set("sort", `${order.down ? "-" : ""}${order.by.name}`);
  history.replaceState(null, "", words.size ? `#${words}` : location.pathname);
}

function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1)), sort = words.get("sort") ?? "";
  FIELDS.forEach((id) => { byId(id).value = words.get(id) ?? ""; });
  order.by = ORDERS.find(({ name }) => name === sort.replace(/^-/, "")) ?? null;
  order.down = sort.startsWith("-");
}

// How many cards stand in a row, as they lie now.
function across() {
  const tops = [...byId("rows").children].map((one) => one.offsetTop);
  return Math.max(tops.findIndex((top) => top > tops[tops.length > 1 ? 1 : 0]), 1);
}

function walk(event) {
  const cards = [...byId("rows").children], at = cards.indexOf(document.activeElement);
  const by = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: () => -across(), ArrowDown: across }[event.key];
  if (event.key === "/" && event.target.tagName !== "INPUT") {
    event.preventDefault();
    byId("words").focus();
  } else if (at >= 0 && by) {
    event.preventDefault();
    cards[clamped(at + by(), 0, cards.length - 1)].focus();
  }
}

function what() {
  const kinds = Object.entries(MANY).map(([kind, many]) => [rows.filter((row) => row.kind === kind).length, kind, many]).filter(([count]) => count);
  const words = kinds.map(([count, kind, many]) => `${count} ${count === 1 ? kind : many}`);
  const models = [...new Set(rows.map((row) => row.model).filter(Boolean))];
  const by = models.length === 1 ? ` by ${models[0]}` : "";
  return `${words.join(", ")}${by}: each shows where${kinds.some(([, kind]) => kind !== "picture") ? " and when" : ""} the evidence for an answer of the network lies. Open one to look closer.`;
}

byId("what").textContent = what();
byId("sorting").append(...ORDERS.map((one) => element("button", { type: "button", textContent: one.name, onclick: () => sortBy(one) })));
options("class", (row) => row.class);
options("kind", (row) => row.kind);
readAddress();
byId("filter").oninput = list;
byId("filter").onsubmit = (event) => event.preventDefault();
byId("whole").onclick = () => {
  byId("filter").reset();
  order.by = null;
  list();
};
addEventListener("keydown", walk);
addEventListener("hashchange", () => { readAddress(); list(); });
list();
