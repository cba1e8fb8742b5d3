// The index: a row for each page, sorted and filtered by what is known of it.

const link = (row, ...inside) => element("a", { href: row.href }, ...inside);
const text = (label, words, className = "") => {
  const cell = element("td", { className, textContent: words });
  cell.dataset.label = label;
  return cell;
};

// The columns: what their head says, by which value of a row they sort (falling first where that is of use), and
// the cell that they make of a row.
const COLUMNS = [
  { head: "", cell: (row) => element("td", {}, link(row, thumbnail(row))) },
  { head: "Name", by: (row) => row.name, cell: (row) => element("td", {}, link(row, row.name), about(row)) },
  { head: "Class", by: (row) => row.class, cell: (row) => text("class", row.class) },
  { head: "Score", by: (row) => row.score, falling: true, cell: (row) => text("score", numeral(row.score), "number") },
  { head: "Confidence", by: (row) => row.confidence, falling: true,
    cell: (row) => text("confidence", numeral(row.confidence), "number") },
  { head: "Findings", by: (row) => row.findings.length, falling: true,
    cell: (row) => element("td", {}, element("span", { className: "found quiet", textContent: row.findings.join(" · ") })) },
];
const order = { column: null, down: false };

function thumbnail(row) {
  if (row.picture === null) return "";
  return element("img", { alt: "", decoding: "async", loading: "lazy", src: `data:image/jpeg;base64,${row.picture}` });
}

function about(row) {
  return element("div", { className: "quiet", textContent: [row.kind, row.method, row.model].filter(Boolean).join(" · ") });
}

const rows = data.rows.map((row) => ({
  ...row, element: element("tr", {}, ...COLUMNS.map((column) => column.cell(row))),
  text: [row.name, row.class, row.model, row.kind, row.method, ...row.findings].join("\n").toLowerCase(),
}));

function matching() {
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
  const value = order.column.by(row);
  return typeof value === "string" ? value.toLowerCase() : value;
}

function compare(a, b) {
  const [x, y] = [key(a), key(b)];
  if (x === y) return 0;
  if (x === null || y === null) return x === null ? 1 : -1; // the unknown last, whichever way
  return (x < y ? -1 : 1) * (order.down ? -1 : 1);
}

function list() {
  const visible = matching();
  if (order.column) visible.sort(compare);
  byId("rows").replaceChildren(...visible.map((row) => row.element));
  byId("count").textContent = `${visible.length} of ${rows.length}`;
  byId("heads").querySelectorAll("th").forEach((head, i) => {
    const own = order.column === COLUMNS[i];
    head.setAttribute("aria-sort", own ? (order.down ? "descending" : "ascending") : "none");
    const button = head.querySelector("button");
    if (button) button.textContent = COLUMNS[i].head + (own ? (order.down ? " ▼" : " ▲") : "");
  });
}

function sortBy(column) {
  order.down = order.column === column ? !order.down : Boolean(column.falling);
  order.column = column;
  list();
}

function options(id, of) {
  const known = [...new Set(rows.map(of))].sort((a, b) => a.localeCompare(b));
  byId(id).replaceChildren(element("option", { value: "", textContent: "all" }),
    ...known.map((text) => element("option", { value: text, textContent: text })));
}

byId("heads").append(...COLUMNS.map((column) => {
  const sort = { type: "button", textContent: column.head, onclick: () => sortBy(column) };
  return element("th", { scope: "col" }, column.by ? element("button", sort) : "");
}));
options("class", (row) => row.class);
options("kind", (row) => row.kind);
byId("filter").oninput = list;
byId("filter").onsubmit = (event) => event.preventDefault();
list();
