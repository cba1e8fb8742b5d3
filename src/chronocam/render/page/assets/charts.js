// Curves over frames or steps: a play head that moves with them, and that a click moves.

const CHART = { height: 92, left: 56, right: 8, top: 8, bottom: 18 };

// seek: goes to a place; null for a curve over something else than the page's frames or steps.
// series: [{name, kind: "line" | "area", values, spans}], values null where unknown; an area has a step for each span.
class Chart {
  constructor(title, series, count, seek, labels = null) {
    Object.assign(this, { title, series, count, seek, labels, at: 0 });
    this.svg = svgElement("svg", { role: "img", height: CHART.height });
    this.element = element("div", { className: "chart" }, element("h3", { textContent: title }), this.legend(), this.svg);
    if (seek) {
      this.svg.onpointerdown = (event) => this.seekAt(event);
      this.svg.onpointermove = (event) => event.buttons === 1 && this.seekAt(event);
    }
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  legend() {
    if (this.series.length < 2) return "";
    const entries = this.series.map((one, i) => {
      const mark = svgElement("svg", { viewBox: "0 0 26 10" }, svgElement("line", { class: `${COLOUR[i]} line`, x1: 0, x2: 26, y1: 5, y2: 5 }));
      return element("span", {}, mark, one.name);
    });
    return element("div", { className: "legend" }, ...entries);
  }

  seekAt(event) {
    const box = this.svg.getBoundingClientRect(), inner = box.width - CHART.left - CHART.right;
    const share = (event.clientX - box.left - CHART.left) / inner;
    this.seek(clamped(Math.floor(share * this.count), 0, this.count - 1));
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const { height, top, bottom } = CHART, [left, right] = this.flush ? [0, 0] : [CHART.left, CHART.right];
    const known = this.series.flatMap((one) => one.values.filter((value) => value !== null));
    const low = Math.min(0, ...known), most = Math.max(0, ...known), high = most === low ? 1 : most;
    this.x = (frame) => left + ((width - left - right) * frame) / this.count;
    this.y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("aria-label", `${this.title}: from ${numeral(low)} to ${numeral(most)}`);
    const text = (x, y, words, anchor) => {
      const label = svgElement("text", { x, y, "text-anchor": anchor });
      label.textContent = words;
      return label;
    };
    const name = (place) => (this.labels ? this.labels[place] : String(place));
    this.svg.replaceChildren(
      svgElement("line", { class: "axis", x1: left, x2: width - right, y1: this.y(0), y2: this.y(0) }),
      ...(this.flush ? [] : [text(left - 5, this.y(high) + 8, most === low ? "" : numeral(most, 2), "end"), text(left - 5, this.y(low), numeral(low, 2), "end")]),
      text(left, height - 4, name(0), "start"),
      text(width - right, height - 4, name(this.count - 1), "end"),
      ...this.series.map((one, i) => this.curve(one, COLOUR[i])),
    );
    if (!this.seek) return;
    this.head = svgElement("line", { class: "head", y1: top - 4, y2: height - bottom + 2 });
    this.svg.append(this.head);
    this.mark(this.at);
  }

  curve(one, colour) {
    if (one.kind === "area") {
      const base = this.y(0), spans = one.spans ?? one.values.map((_, i) => [i, i]);
      const steps = one.values.map((value, i) => {
        const [a, b] = spans[i], last = i ? spans[i - 1][1] : -1;
        // A slice over frames that an earlier one covers too has a step of its own, and no line leads back.
        const anew = a <= last ? `L${this.x(last + 1)},${base} Z M${this.x(a)},${base} ` : "";
        return `${anew}L${this.x(a)},${this.y(value)} L${this.x(b + 1)},${this.y(value)}`;
      });
      const path = `M${this.x(0)},${base} ${steps.join(" ")} L${this.x(spans.at(-1)[1] + 1)},${base} Z`;
      return svgElement("path", { class: `${colour} area`, d: path });
    }
    let pen = "M";
    const points = one.values.map((value, i) => {
      if (value === null) { pen = "M"; return ""; }
      const point = `${pen}${this.x(i + 0.5)},${this.y(value)}`;
      pen = "L";
      return point;
    });
    return svgElement("path", { class: `${colour} line`, d: points.join(" ") || "M0,0" });
  }

  mark(at) {
    this.at = at;
    if (!this.head) return;
    this.head.setAttribute("x1", this.x(at + 0.5));
    this.head.setAttribute("x2", this.x(at + 0.5));
  }
}

const COLOUR = ["one", "two", "three", "four"];

// Terms as bars from zero, with their sum: the ledger of a score.
function ledgerOf(terms, sum) {
  const entries = [...Object.entries(terms), ["score", sum]];
  const most = Math.max(...entries.map(([, value]) => Math.abs(value ?? 0)), 1e-12);
  const rows = entries.map(([name, value]) => {
    const share = Math.abs(value ?? 0) / most * 50;
    const bar = svgElement("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", height: 12, "aria-hidden": "true" },
      svgElement("rect", { class: value < 0 ? "bar-down" : "bar-up", x: value < 0 ? 50 - share : 50, width: share, y: 0, height: 10 }),
      svgElement("line", { class: "axis", x1: 50, x2: 50, y1: 0, y2: 10 }));
    return element("tr", {}, element("th", { textContent: name.replaceAll("_", " "), scope: "row" }),
      element("td", { className: "number", textContent: numeral(value, 4) }), element("td", { className: "chart" }, bar));
  });
  return element("table", { "aria-label": "Ledger: terms that sum to the score" }, element("tbody", {}, ...rows));
}
