// What is looked at, in the address: sample, map, target and frame. A link shows the same again.

// The view in the address; a number alone is a sample.
function viewInAddress() {
  const words = location.hash.slice(1);
  if (/^\d+$/.test(words)) return { sample: Number(words) - 1 };
  const known = new URLSearchParams(words), number = (name) => (known.has(name) ? Number(known.get(name)) || 0 : undefined);
  return { sample: number("sample") - 1 || 0, map: known.get("map"), target: known.get("target"), frame: number("frame") };
}

// Where a name or, failing that, a number stands among names; undefined for neither.
function placeOf(name, names) {
  if (name === null || name === undefined) return undefined;
  const at = names.indexOf(name);
  return at >= 0 ? at : names[Number(name) - 1] === undefined ? undefined : Number(name) - 1;
}

let timer = null;

function writeView() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (location.protocol === "about:") return; // a page in a frame of a notebook has no address
    const { item, panes, sequences, index, frame } = page, words = new URLSearchParams();
    if (data.items.length > 1) words.set("sample", index + 1);
    if (panes[0] && item.maps.length > 1) words.set("map", panes[0].of.label);
    if (panes[0] || sequences[0]) words.set("target", (panes[0] || sequences[0]).about.name);
    if (steps() > 1) words.set("frame", frame);
    history.replaceState(null, "", `#${words}`);
  }, 200);
}
