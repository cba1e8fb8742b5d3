// The handle of the slider between two maps, or a map and its picture: dragged, or moved by the arrow keys.

class Handle {
  constructor(moved) {
    this.moved = moved;
    this.share = 0.5;
    this.element = element("div", { className: "handle", hidden: true, role: "slider", tabIndex: 0,
      "aria-label": "Where the two meet", "aria-valuemin": "0", "aria-valuemax": "100" });
    this.element.onpointerdown = (event) => this.element.setPointerCapture(event.pointerId);
    this.element.onpointermove = (event) => event.buttons === 1 && this.drag(event);
    this.element.onkeydown = (event) => this.key(event);
  }

  drag(event) {
    const area = this.element.parentElement.querySelector("canvas").getBoundingClientRect();
    this.moved(clamped((event.clientX - area.left) / area.width, 0, 1));
  }

  key(event) {
    const by = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation(); // the arrows move in time elsewhere
    this.moved(clamped(this.share + by, 0, 1));
  }

  show(share) {
    this.element.hidden = share === null;
    if (share === null) return;
    this.share = share;
    this.element.style.left = `${100 * share}%`;
    this.element.setAttribute("aria-valuenow", String(Math.round(100 * share)));
  }
}
