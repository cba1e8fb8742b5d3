// Time: the slider, the slices of the map with the frames they span, and the curves below.

class Player {
  // go: shows a frame; seek: does so because the reader wants it.
  constructor(item, go, seek) {
    Object.assign(this, { item, go, seek, playing: null, charts: [] });
    const { seconds, numbers, count, unit } = item.stills;
    this.count = count;
    this.seconds = seconds;
    this.labels = Array.from({ length: count }, (_, i) =>
      seconds ? `${seconds[i].toFixed(2)} s` : `${unit} ${numbers ? numbers[i] : i}`);
    this.unit = unit;
    byId("frame").setAttribute("aria-label", unit === "slice" ? "Slice" : "Frame");
    byId("player").hidden = count < 2;
    byId("frame").max = count - 1;
    byId("frame").oninput = (event) => this.seek(Number(event.target.value));
    byId("play").onclick = () => this.toggle();
  }

  // Play from the start, what moves and unless the reader wants stillness.
  begin() {
    if (this.count > 1 && this.unit === "frame" && this.item.stills.frames.length && !matchMedia("(prefers-reduced-motion: reduce)").matches) this.toggle();
  }

  toggle() {
    if (this.playing) return this.pause();
    const step = this.seconds && this.count > 1
      ? clamped((this.seconds[this.count - 1] - this.seconds[0]) / (this.count - 1), 0.06, 0.5) : 0.125;
    this.playing = setInterval(() => this.go((this.frame + 1) % this.count), 1000 * step);
    this.labelPlay();
  }

  pause() {
    clearInterval(this.playing);
    this.playing = null;
    this.labelPlay();
  }

  labelPlay() {
    byId("play").textContent = this.playing ? "❚❚" : "▶";
    byId("play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
  }

  // Draw the slices of the first pane's map, and the curves of all panes.
  of(panes) {
    const spans = panes[0].of.spans;
    this.spans = spans;
    byId("slices").hidden = !spans;
    const dense = spans && (spans.length > 12 || spans.some(([a], i) => i && a <= spans[i - 1][1]));
    byId("slices").className = dense ? "dense" : "";
    byId("slices").replaceChildren(...(spans || []).map(([a, b], i) => this.slice(a, b, i)));
    this.charts = this.chartsOf(panes);
    byId("curves").replaceChildren(...this.charts.map((chart) => chart.element));
  }

  slice(a, b, i) {
    const words = a === b ? `${a}` : `${a}–${b}`;
    const button = element("button", { type: "button", textContent: words, title: `${this.unit}${a === b ? "" : "s"} ${words}` });
    button.setAttribute("aria-label", button.title);
    button.style.left = `${(100 * a) / this.count}%`;
    button.style.width = `calc(${(100 * (b - a + 1)) / this.count}% - 2px)`;
    button.onclick = () => this.seek(Math.floor((a + b) / 2));
    return button;
  }

  chartsOf(panes) {
    const nameOf = (pane) => (panes.length > 1 ? `${pane.about.name}, ${pane.of.label}` : pane.about.name);
    const chart = (title, series) => new Chart(title, series, this.count, this.seek, this.labels);
    const charts = [];
    const timed = panes.filter((pane) => pane.about.importance);
    if (timed.length) {
      charts.push(chart("Share of the evidence in each slice", timed.map((pane) =>
        ({ name: nameOf(pane), kind: "area", values: pane.about.importance, spans: pane.of.spans }))));
    }
    const attending = panes.filter((pane) => pane.about.attention);
    if (attending.length) {
      const agree = attending.map((pane) => numeral(pane.about.attention.agreement, 2)).join(" and ");
      charts.push(chart("Attention: weight of each frame, the same for every class", attending.map((pane) =>
        ({ name: nameOf(pane), kind: "line", values: pane.about.attention.weights }))));
      charts.push(chart(`Attention: what each frame adds to the score (rank correlation with the weights ${agree})`,
        attending.map((pane) => ({ name: nameOf(pane), kind: "line", values: pane.about.attention.contributions }))));
    }
    const outputs = panes.filter((pane) => pane.about.scores);
    return [...charts, ...outputs.map(({ about }) => chart(`Output: ${about.name}`, this.output(about)))];
  }

  output({ name, scores, truth, unit }) {
    if (!truth || unit === null) return [{ name, kind: "line", values: scores }];
    const scaled = { name: `${name}, scaled to the truth (× ${numeral(unit)})`, kind: "line", values: scores.map((score) => score * unit) };
    return [scaled, { name: "truth", kind: "line", values: truth }];
  }

  show(frame) {
    this.frame = frame;
    byId("frame").value = frame;
    byId("frame").setAttribute("aria-valuetext", this.labels[frame]);
    byId("time").textContent = this.seconds ? `frame ${frame} · ${this.labels[frame]}` : this.labels[frame];
    this.charts.forEach((chart) => chart.mark(frame));
    (this.spans || []).forEach(([a, b], i) => {
      byId("slices").children[i].setAttribute("aria-pressed", String(a <= frame && frame <= b));
    });
  }
}
