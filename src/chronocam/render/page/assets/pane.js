// A picture with one map over it. The page may show two, side by side.

class Pane {
  constructor(item, which, changed) {
    Object.assign(this, { item, map: 0, target: 0, shown: null });
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
    this.caption = element("figcaption");
    const choices = element("div", { className: "row" }, this.mapChoice, this.targetChoice);
    this.element = element("figure", { className: "pane" }, choices, this.canvas, this.caption);
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
    this.changed(this);
  }

  draw(frame, pictures, look) {
    if (!this.field) return;
    const { context, canvas, cover, field } = this;
    const [left, top] = this.item.stills.seen;
    const values = field.upsampled(look.own ? field.values : field.shared, frame, cover.height, cover.width);
    const colours = look.colours === "auto" ? data.theme[field.signed ? "diverging" : "sequential"] : look.colours;
    this.over.putImageData(painted(values, field.signed, colours, this.image), 0, 0);
    this.behind(pictures, frame);
    context.globalAlpha = look.opacity;
    context.drawImage(cover, left, top);
    context.globalAlpha = 1;
    if (look.boxes) this.box(frame, look.threshold);
    this.shown = { frame, map: this.map, target: this.target };
    canvas.setAttribute("aria-label", `${this.about.name}: ${this.of.label}, frame ${frame + 1}`);
    this.caption.textContent = this.words();
  }

  // The picture, dimmed where the model did not see it.
  behind(pictures, frame) {
    const { context, canvas, cover } = this, [left, top] = this.item.stills.seen;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!pictures.length) return;
    const whole = left <= 0 && top <= 0 && left + cover.width >= canvas.width && top + cover.height >= canvas.height;
    context.globalAlpha = whole ? 1 : 0.45;
    context.drawImage(pictures[frame], 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
    if (whole) return;
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

  words() {
    const { about, of } = this;
    const score = about.scores ? about.scores[clamped(this.frame ?? 0, 0, about.scores.length - 1)] : about.score;
    const parts = [`${about.name}: score ${numeral(score)}`];
    if (about.confidence !== null) parts.push(`confidence ${numeral(about.confidence)}`);
    parts.push(`${of.method} at ${of.layer}, grid ${of.grid.join(" × ")}${of.thinned ? ", thinned for this page" : ""}`);
    return parts.join(" · ");
  }
}
