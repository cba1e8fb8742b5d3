// The index: a row for each page, sorted and filtered by what is known of it.

const COLUMNS = [
  ["", null], ["Name", "name"], ["Class", "class"], ["Score", "score"], ["Confidence", "confidence"], ["Findings", "findings"],
];
const order = { by: null, down: false };

function made(row) {
  const link = (...inside) => element("a", { href: row.href }, ...inside);
  const picture = row.picture === null ? "" : element("img", { alt: "", decoding: "async", loading: "lazy", src: `data:image/jpeg;base64,${row.picture}` });
  const cell = (label, text, kind = "") => {
    const made = element("td", { className: kind, textContent: text });
    made.dataset.label = label;
    return made;
  };
  const about = [row.kind, row.method, row.model].filter(Boolean).join(" · ");
  const found = element("td", {}, element("span", { className: "found quiet", textContent: row.findings.join(" · ") }));
  return element("tr", {},
    element("td", {}, link(picture)),
    element("td", {}, link(row.name), element("div", { className: "quiet", textContent: about })),
    cell("class", row.class), cell("score", told(row.score), "number"), cell("confidence", told(row.confidence), "number"), found);
}

const rows = data.rows.map((row) => ({
  ...row, element: made(row),
  text: [row.name, row.class, row.model, row.kind, row.method, ...row.findings].join("\n").toLowerCase(),
}));

function chosen() {
  const value = (id) => byId(id).value;
  const least = (id, of) => value(id) === "" || (of !== null && of >= Number(value(id)));
  const words = value("words").toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => words.every((word) => row.text.includes(word))
    && (!value("class") || row.class === value("class"))
    && (!value("kind") || row.kind === value("kind"))
    && (!value("findings") || (value("findings") === "some") === row.findings.length > 0)
    && least("score", row.score) && least("confidence", row.confidence));
}

function key(row) {
  const value = order.by === "findings" ? row.findings.length : row[order.by];
  return typeof value === "string" ? value.toLowerCase() : value;
}

function compared(a, b) {
  const [x, y] = [key(a), key(b)];
  if (x === y) return 0;
  if (x === null || y === null) return x === null ? 1 : -1; // the unknown last, whichever way
  return (x < y ? -1 : 1) * (order.down ? -1 : 1);
}

function list() {
  const shown = chosen();
  if (order.by) shown.sort(compared);
  byId("rows").replaceChildren(...shown.map((row) => row.element));
  byId("count").textContent = `${shown.length} of ${rows.length}`;
  byId("heads").querySelectorAll("th").forEach((head) => {
    const own = order.by !== null && head.dataset.by === order.by;
    head.setAttribute("aria-sort", own ? (order.down ? "descending" : "ascending") : "none");
    const button = head.querySelector("button");
    if (button) button.textContent = head.dataset.name + (own ? (order.down ? " ▼" : " ▲") : "");
  });
}

function sortBy(by) {
  order.down = order.by === by ? !order.down : by === "score" || by === "confidence" || by === "findings";
  order.by = by;
  list();
}

function options(id, of) {
  const known = [...new Set(rows.map(of))].sort((a, b) => a.localeCompare(b));
  byId(id).replaceChildren(element("option", { value: "", textContent: "all" }),
    ...known.map((text) => element("option", { value: text, textContent: text })));
}

byId("heads").append(...COLUMNS.map(([name, by]) => {
  const head = element("th", { scope: "col" }, by ? element("button", { type: "button", textContent: name, onclick: () => sortBy(by) }) : "");
  Object.assign(head.dataset, { by: by || "", name });
  return head;
}));
options("class", (row) => row.class);
options("kind", (row) => row.kind);
byId("filter").oninput = list;
byId("filter").onsubmit = (event) => event.preventDefault();
list();
