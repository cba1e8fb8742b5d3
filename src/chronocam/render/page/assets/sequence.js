// Relevance of features: time × feature, what leads at a step, settling, memory and the ledger.

class Relevance {
  constructor(entry, seek) {
    Object.assign(this, { entry, seek, step: 0, target: 0 });
    this.choice = element("select", { "aria-label": "Explained" },
      ...entry.targets.map((one) => element("option", { textContent: one.score === null ? one.name : `${one.name} (${numeral(one.score)})` })));
    this.choice.onchange = () => this.choose(this.choice.selectedIndex);
    this.canvas = element("canvas", { role: "img", width: entry.cells[0], height: entry.cells[1] });
    this.canvas.onpointerdown = this.canvas.onpointermove = (event) => this.pointAt(event);
    this.head = element("i");
    this.sentence = element("p", { className: "sentence" });
    this.line = element("p", { className: "quiet", role: "status" });
    this.rest = element("div", { className: "columns" });
    const several = entry.bin > 1 ? `; of ${entry.bin} neighbouring features the strongest` : "";
    this.element = element("div", { className: "card" },
      element("h2", { textContent: `${entry.label}: ${entry.steps} steps × ${entry.features} features` }),
      element("div", { className: "row" }, this.choice, this.sentence),
      element("p", { className: "quiet", textContent: `across: steps; down: features${several}. Red raises the score, blue lowers it.` }),
      element("div", { className: "heat" }, this.canvas, this.head), this.line, this.rest,
      element("ul", { className: "quiet" }, ...entry.findings.map((text) => element("li", { textContent: text }))));
    this.choice.hidden = entry.targets.length < 2;
  }

  get about() { return this.entry.targets[this.target]; }

  async choose(target) {
    const chosen = this.choice.selectedIndex = clamped(target, 0, this.entry.targets.length - 1);
    const values = await inflated(this.entry.targets[chosen].bytes);
    // Another choice made meanwhile has its own turn; what is named and what is drawn change together.
    if (this.choice.selectedIndex !== chosen) return;
    Object.assign(this, { target: chosen, values });
    this.sentence.textContent = this.about.sentence;
    this.draw();
    this.charts = this.chartsOf();
    this.rest.replaceChildren(...this.charts.map((chart) => chart.element ?? chart));
    this.show(this.step);
  }

  draw() {
    const [steps, cells] = this.entry.cells, table = colourTables[data.theme.diverging];
    const context = this.canvas.getContext("2d"), image = context.createImageData(steps, cells);
    for (let t = 0; t < steps; t += 1) {
      for (let f = 0; f < cells; f += 1) {
        const at = 4 * (f * steps + t), colour = 3 * clamped(this.values[t * cells + f], 0, 255);
        image.data.set([table[colour], table[colour + 1], table[colour + 2], 255], at);
      }
    }
    context.putImageData(image, 0, 0);
    this.canvas.setAttribute("aria-label", `Relevance of ${this.about.name} over time and feature`);
  }

  pointAt(event) {
    const box = this.canvas.getBoundingClientRect(), [steps, cells] = this.entry.cells;
    const t = clamped(Math.floor(((event.clientX - box.left) / box.width) * steps), 0, steps - 1);
    this.feature = clamped(Math.floor(((event.clientY - box.top) / box.height) * cells), 0, cells - 1);
    if (event.type === "pointerdown" || event.buttons === 1) this.seek(t);
    else this.say(t);
  }

  value(t, f) {
    return ((this.values[t * this.entry.cells[1] + f] - 128) / 127) * this.entry.peak;
  }

  say(t) {
    const top = this.about.top[t].map(([feature, value]) => `${feature} (${numeral(value, 2)})`).join(", ") || "none";
    const under = this.feature === undefined ? "" : ` · here, feature ${this.feature * this.entry.bin}: ${numeral(this.value(t, this.feature), 2)}`;
    this.line.textContent = `step ${t}: strongest features ${top}${under}`;
  }

  chartsOf() {
    const { entry, about } = this;
    const chart = (title, series, labels = null) => new Chart(title, series, series[0].values.length, (t) => this.seek(t), labels);
    const charts = [chart("Relevance of each step, summed over its features", [{ name: "sum", kind: "area", values: about.by_step }])];
    const settling = entry.settling, memory = entry.memory;
    if (settling) {
      const when = settling.settled < 0 ? "never within" : `from step ${settling.settled} within`;
      const curves = chart(`Settling: likeness to the steady state (${when} ${settling.tolerance})`, ["cosine", "spearman", "jaccard", "chance"].map((name) =>
        ({ name, kind: "line", values: settling[name] })), settling.steps.map(String));
      charts.push(curves);
    }
    if (memory) {
      // Lags are not steps: nothing moves with them.
      const curve = new Chart(`Memory: share of the relevance by lag (90 % within ${memory.reach} steps)`, [{ name: "share", kind: "area", values: memory.share }], memory.share.length, null, memory.lags.map(String));
      charts.push(curve);
    }
    if (Object.keys(about.ledger).length) {
      charts.push(element("div", {}, element("h3", { textContent: "Ledger: the score is the sum of" }), ledgerOf(about.ledger, about.score)));
    }
    return charts;
  }

  show(step) {
    const steps = this.entry.steps;
    this.step = clamped(step, 0, steps - 1);
    this.head.style.left = `${(100 * this.step) / steps}%`;
    this.head.style.width = `${100 / steps}%`;
    this.say(this.step);
    for (const chart of this.charts || []) if (chart.mark) chart.mark(clamped(this.step, 0, chart.count - 1));
  }
}
