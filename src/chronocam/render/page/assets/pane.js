// A picture with one map over it, its colour bar and what lies under the pointer. The page may show two, side by side.

class Pane {
  constructor(item, which, changed) {
    Object.assign(this, { item, map: 0, target: item.maps[0].first, shown: null, split: 0.5 });
    this.changed = changed;
    this.canvas = element("canvas", { "aria-label": "", role: "img" });
    [this.canvas.height, this.canvas.width] = item.stills.size;
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    const [left, top, right, bottom] = item.stills.seen;
    this.cover = new OffscreenCanvas(Math.max(right - left, 1), Math.max(bottom - top, 1));
    this.over = this.cover.getContext("2d", { willReadFrequently: true });
    this.image = this.over.createImageData(this.cover.width, this.cover.height);
    this.mapChoice = this.choice(`Map ${which}`, item.maps.map((map) => map.label), (i) => this.choose(i, this.target));
    this.targetChoice = this.choice(`Explained ${which}`, [], (i) => this.choose(this.map, i));
    this.choices = element("div", { className: "row choices" }, this.mapChoice, this.targetChoice);
    this.handle = new Handle((share) => { this.split = share; this.again(); });
    this.cell = element("i", { className: "cell", hidden: true });
    this.sight = element("i", { className: "sight", hidden: true });
    this.found = element("div", { className: "boxes" });
    this.frameBox = element("div", { className: "picture" }, this.canvas, this.found, this.sight, this.cell, this.handle.element);
    this.frameBox.style.setProperty("--ratio", this.canvas.width / this.canvas.height);
    this.legend = new Legend();
    this.line = element("div");
    this.caption = element("figcaption");
    this.element = element("figure", { className: "pane" }, this.choices, this.frameBox, this.line, this.legend.element, this.caption);
    this.canvas.onpointermove = (event) => this.point(event);
    this.canvas.onpointerdown = (event) => this.point(event);
    this.canvas.onpointerleave = () => this.point(null);
  }

  choice(name, options, chosen) {
    const select = element("select", { "aria-label": name });
    select.onchange = () => chosen(select.selectedIndex);
    this.fill(select, options);
    return select;
  }

  fill(select, options) {
    select.replaceChildren(...options.map((text) => element("option", { textContent: text })));
    select.hidden = options.length < 2;
  }

  get of() { return this.item.maps[this.map]; }
  get whole() {
    const { canvas, cover } = this, [left, top] = this.item.stills.seen;
    return left <= 0 && top <= 0 && left + cover.width >= canvas.width && top + cover.height >= canvas.height;
  }

  get about() { return this.of.targets[this.target]; }

  async choose(map, target) {
    this.map = clamped(map, 0, this.item.maps.length - 1);
    this.target = clamped(target, 0, this.of.targets.length - 1);
    this.fill(this.targetChoice, this.of.targets.map((one) => one.name));
    this.mapChoice.selectedIndex = this.map;
    this.targetChoice.selectedIndex = this.target;
    const [of, at] = [this.of, this.target];
    const field = await fieldOf(of, at);
    if (of !== this.of || at !== this.target) return; // chosen anew meanwhile
    this.field = field;
    this.found.replaceChildren(...this.outlines());
    this.line.replaceChildren(...(this.about.line ? [this.curve(this.about.line)] : []));
    this.changed(this);
  }

  // The boxes that a detector found, each a button that shows its map; small ones lie over large ones.
  outlines() {
    const { canvas, cover, of } = this, [left, top] = this.item.stills.seen;
    const down = cover.height / of.input[0], across = cover.width / of.input[1];
    const boxes = of.targets.map(({ name, box }, i) => ({ name, box, i })).filter(({ box }) => box);
    const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);
    return boxes.sort((a, b) => area(b.box) - area(a.box)).map(({ name, box: [x0, y0, x1, y1], i }) => {
      const button = element("button", { className: i === this.target ? "found chosen" : "found", title: name, "aria-label": name });
      const place = { left: (left + x0 * across) / canvas.width, top: (top + y0 * down) / canvas.height,
        width: ((x1 - x0) * across) / canvas.width, height: ((y1 - y0) * down) / canvas.height };
      for (const [side, share] of Object.entries(place)) button.style[side] = `${100 * share}%`;
      button.onclick = () => this.choose(this.map, i);
      button.onpointermove = (event) => this.point(event);
      return button;
    });
  }

  // The map of a signal as a curve.
  curve(values) {
    const length = this.of.input[1], labels = values.map((_, i) => `sample ${i === 0 ? 0 : i === values.length - 1 ? length - 1 : ""}`);
    const chart = new Chart("Map over the samples", [{ name: this.about.name, kind: "area", values }], values.length, null, labels);
    chart.flush = true; // so that it stands under the picture, sample by sample
    return chart.element;
  }

  // against: {field} on the left of the slider, {} for the picture alone, null without a slider.
  draw(frame, pictures, look, against) {
    if (!this.field) return;
    this.drawn = [frame, pictures, look, against];
    const { context, canvas, field } = this;
    this.behind(pictures, frame);
    this.values = this.lay(field, frame, look);
    if (look.boxes) this.box(frame, look.threshold);
    if (against) this.curtain(frame, pictures, look, against);
    this.handle.show(against ? this.split : null);
    this.shown = { frame, map: this.map, target: this.target };
    canvas.setAttribute("aria-label", `${this.about.name}: ${this.of.label}, frame ${frame}`);
    this.legend.show(this, look);
    this.words();
  }

  again() {
    if (this.drawn) this.draw(...this.drawn);
  }

  // Lay a map over what is drawn; return its value at every pixel that the model saw.
  lay(field, frame, look) {
    const { context, cover } = this, [left, top] = this.item.stills.seen;
    const values = field.upsampled(look.own ? field.values : field.shared, frame, cover.height, cover.width);
    this.over.putImageData(painted(values, field.signed, coloursOf(field, look), this.image), 0, 0);
    context.globalAlpha = look.opacity;
    context.drawImage(cover, left, top);
    context.globalAlpha = 1;
    return values;
  }

  // What lies on the left of the slider.
  curtain(frame, pictures, look, against) {
    const { context, canvas } = this;
    context.save();
    context.beginPath();
    context.rect(0, 0, this.split * canvas.width, canvas.height);
    context.clip();
    this.behind(pictures, frame);
    if (against.field) this.lay(against.field, frame, look);
    context.restore();
  }

  // The picture, dimmed where the model did not see it.
  behind(pictures, frame) {
    const { context, canvas, cover } = this, [left, top] = this.item.stills.seen;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!pictures.length) return;
    context.globalAlpha = this.whole ? 1 : 0.45;
    context.drawImage(pictures[frame], 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
    if (this.whole) return;
    context.save();
    context.beginPath();
    context.rect(left, top, cover.width, cover.height);
    context.clip();
    context.drawImage(pictures[frame], 0, 0, canvas.width, canvas.height);
    context.restore();
  }

  box(frame, threshold) {
    const { field, context, cover } = this, [left, top] = this.item.stills.seen;
    // Of a clip, a share of the whole clip's maximum: a frame without evidence has no box.
    const values = field.upsampled(field.values, frame, cover.height, cover.width);
    const most = highest(field.frames === 1 ? values : field.values);
    const box = most > 0 ? largestBox(values, cover.height, cover.width, threshold * most) : null;
    this.canvas.dataset.box = box ? box.join(" ") : "";
    if (!box) return;
    context.lineWidth = Math.max(2, this.canvas.width / 200);
    context.strokeStyle = data.theme.box;
    context.strokeRect(left + box[0], top + box[1], box[2] - box[0], box[3] - box[1]);
  }

  // Say what lies under the pointer, and outline the cell that it belongs to.
  point(event) {
    const area = this.canvas.getBoundingClientRect(), { cover, canvas } = this, [left, top] = this.item.stills.seen;
    const scale = canvas.width / area.width;
    const x = event ? Math.floor((event.clientX - area.left) * scale) - left : -1;
    const y = event ? Math.floor((event.clientY - area.top) * scale) - top : -1;
    const inside = this.field && this.values && x >= 0 && y >= 0 && x < cover.width && y < cover.height;
    this.cell.hidden = this.sight.hidden = !inside;
    if (!inside) return this.legend.say("");
    const { field } = this, size = [cover.height, cover.width];
    const [row, above, below] = field.cellAt(0, y, size[0]), [column, before, after] = field.cellAt(1, x, size[1]);
    const outline = (node, y0, y1, x0, x1) => {
      const place = { left: left + x0, top: top + y0, width: x1 - x0, height: y1 - y0 };
      for (const [name, value] of Object.entries(place)) node.style[name] = `${value / scale}px`;
    };
    outline(this.cell, above, below, before, after);
    const raw = this.values[y * cover.width + x] * rawOf(this, this.drawn[2]);
    const words = [`here ${numeral(raw)}`, `row ${row + 1}, column ${column + 1} of ${this.of.cells.join(" × ")} cells`];
    this.sight.hidden = !field.windows;
    if (field.windows) {
      const [y0, y1, high] = field.seenBy(0, row, size[0]), [x0, x1, wide] = field.seenBy(1, column, size[1]);
      outline(this.sight, y0, y1, x0, x1);
      words.push(`sees ${high} × ${wide} of ${this.of.input.join(" × ")} pixels`);
    }
    this.legend.say(words.join(" · "));
  }

  words() {
    const { about, of } = this;
    const score = about.scores ? about.scores[clamped(this.frame ?? 0, 0, about.scores.length - 1)] : about.score;
    const grid = element("span", { className: "whole", textContent: `grid ${of.grid.join(" × ")}` });
    this.caption.replaceChildren(`score ${numeral(score)} · ${of.method} at ${of.layer} · `, grid,
      of.thinned ? " · thinned for this page" : "", this.whole ? "" : " · dimmed: not seen by the model");
  }
}
