// The colour bar of a map with the values at its ends, and how faint the map is beside the strongest.

const FAINT = 0.5; // of the strongest map, below which a map is said to be faint

const coloursOf = (field, look) =>
  look.colours === "auto" ? data.theme[field.signed ? "diverging" : "sequential"] : look.colours;

// What a value of one, as it is drawn, is as a raw value of the map.
function rawOf({ about, field }, look) {
  return (about.scale ?? 1) * (look.own ? field.gain : 1);
}

class Legend {
  constructor() {
    this.canvas = element("canvas", { width: 256, height: 1, role: "img" });
    [this.low, this.middle, this.high] = ["", "", ""].map(() => element("span"));
    this.note = element("span");
    this.button = element("button", { type: "button", className: "link", textContent: "scale", onclick: () => byId("own").click() });
    this.faint = element("p", { className: "faint", hidden: true }, this.note, " ", this.button);
    this.element = element("div", { className: "legend-bar" }, this.canvas,
      element("div", { className: "ticks" }, this.low, this.middle, this.high), this.faint);
  }

  show(pane, look) {
    const { field, about, of } = pane, { canvas } = this;
    const values = Float32Array.from({ length: 256 }, (_, i) => (field.signed ? i / 127.5 - 1 : i / 255));
    const context = canvas.getContext("2d"), image = painted(values, field.signed, coloursOf(field, look), context.createImageData(256, 1));
    for (let at = 3; at < image.data.length; at += 4) image.data[at] *= Math.min(1, 0.3 + look.opacity);
    context.putImageData(image, 0, 0);
    const most = numeral(rawOf(pane, look), 2);
    [this.low.textContent, this.idle, this.high.textContent] = field.signed
      ? [`−${most} lowers the score`, "0", `raises it ${most}`] : ["0 no evidence", "", `${most} strongest`];
    this.say("");
    canvas.setAttribute("aria-label", `Colours of the map, from ${this.low.textContent} to ${this.high.textContent}`);
    this.compare(about, of, look);
  }

  compare(about, of, look) {
    const peak = (one) => (one.range ? Math.max(...one.range.map((value) => Math.abs(value ?? 0))) : null);
    const peaks = of.targets.map(peak), most = Math.max(...peaks), own = peak(about);
    this.faint.hidden = own === null || !(most > 0) || own >= FAINT * most;
    if (this.faint.hidden) return;
    const share = `${numeral(own / most, 2)} of the strongest map here (${of.targets[peaks.indexOf(most)].name})`;
    this.note.textContent = own === 0 ? "Zero everywhere." : look.own ? `At its own scale; its peak is ${share}.` : `Faint: its peak is ${share}.`;
    this.button.hidden = own === 0;
    this.button.textContent = look.own ? "show at the common scale" : "show at its own scale";
  }

  // Between the ends of the bar: what lies under the pointer, or else the middle of the scale.
  say(words) {
    this.middle.className = words ? "here" : "";
    this.middle.textContent = words || this.idle;
  }
}
