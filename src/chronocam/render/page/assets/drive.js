// The path of a camera from above: x to the right, z ahead, one unit for both.

class Path {
  constructor(path, seek) {
    Object.assign(this, { path, seek });
    const all = [...path.positions, ...(path.truth || [])];
    const xs = all.map(([x]) => x), zs = all.map(([, z]) => z);
    const [x0, x1, z0, z1] = [Math.min(...xs), Math.max(...xs), Math.min(...zs), Math.max(...zs)];
    const size = Math.max(x1 - x0, z1 - z0, 1e-9), pad = 0.08 * size;
    this.unit = size / 100;
    const middle = (x0 + x1) / 2, width = Math.max(x1 - x0, 0.4 * size);
    this.svg = svgElement("svg", {
      viewBox: `${middle - width / 2 - pad} ${-z1 - pad} ${width + 2 * pad} ${z1 - z0 + 2 * pad}`,
      role: "img", "aria-label": "Path of the camera, from above", height: 280,
    });
    this.line(path.positions, "one");
    if (path.truth) this.line(path.truth, "two");
    this.here = svgElement("circle", { r: 2.2 * this.unit, fill: "currentColor" });
    this.svg.append(this.here);
    this.svg.onpointerdown = (event) => this.seekAt(event);
    const names = path.truth ? [["one", "network"], ["two", "truth"]] : [["one", "network"]];
    const legend = names.map(([colour, name]) => element("span", {}, svgElement("svg", { viewBox: "0 0 26 10" },
      svgElement("line", { class: `${colour} line`, x1: 0, x2: 26, y1: 5, y2: 5 })), name));
    this.element = element("div", { className: "chart" }, this.svg, element("div", { className: "legend" }, ...legend),
      element("p", { className: "quiet", textContent: path.note }));
  }

  line(points, colour) {
    const curve = svgElement("polyline", { class: `${colour} line`, points: points.map(([x, z]) => `${x},${-z}`).join(" ") });
    curve.setAttribute("vector-effect", "non-scaling-stroke");
    this.svg.append(curve);
  }

  seekAt(event) {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    const away = this.path.positions.map(([x, z]) => Math.hypot(x - at.x, -z - at.y));
    this.seek(Math.min(away.indexOf(Math.min(...away)), this.path.positions.length - 2));
  }

  mark(frame) {
    const [x, z] = this.path.positions[clamped(frame, 0, this.path.positions.length - 1)];
    this.here.setAttribute("cx", x);
    this.here.setAttribute("cy", -z);
  }
}
