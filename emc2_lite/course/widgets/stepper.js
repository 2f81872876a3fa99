// A chain to step through. Every number was computed in Python; here the steps are counted and drawn.

const INK = "#333333", GREY = "#797979", BLUE = "#0072B2", VERMILION = "#D55E00", GREEN = "#00714F";
const PACE = 350; // milliseconds of a step while playing
const SVG = "http://www.w3.org/2000/svg";

function element(tag, properties, parent) {
  const made = Object.assign(document.createElement(tag), properties);
  if (tag === "input") made.dataset.lmSuppressShortcuts = "true"; // while it has the focus, JupyterLab takes no keys
  parent.append(made);
  return made;
}

function shape(tag, attributes, parent, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function picture(pixels) {
  const side = Math.sqrt(pixels.length);
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const image = canvas.getContext("2d").createImageData(side, side);
  pixels.forEach((value, place) => image.data.set([242 - 0.85 * value, 242 - 0.85 * value, 242 - 0.85 * value, 255], 4 * place));
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas.toDataURL();
}

// The step in words: what was proposed, what was compared, what came of it.
function words(chain, level, seed, step) {
  if (step === 0) return "No step yet: the walker holds nothing, and takes whatever comes first.";
  const k = chain.proposals[seed][step - 1], u = chain.uniforms[seed][step - 1];
  const accepted = level.accepted[seed][step - 1], before = step > 1 ? level.held[seed][step - 2] : null;
  const proposal = `Step ${step} proposes candidate ${k}, score ${level.scores[k].toFixed(2)}.`;
  if (before === null) return `${proposal} The first one is accepted.`;
  const need = Math.min(1, Math.exp(level.scores[k] - level.scores[before]));
  const rule = `Candidate ${before} is held, score ${level.scores[before].toFixed(2)}: accept if U is below ${need.toFixed(4)}.`;
  const end = accepted ? `accepted` : `rejected, candidate ${before} counts once more`;
  return `${proposal} ${rule} U = ${u.toFixed(3)}: ${end}.`;
}

function histogram(svg, chain, level, seed, step, width, images) {
  const m = level.target.length, left = 48, height = 190, top = 26;
  shape("text", { x: 4, y: 12 }, svg, "share of the steps so far");
  const counts = new Array(m).fill(0);
  level.held[seed].slice(0, step).forEach((k) => (counts[k] += 1));
  const most = Math.max(...level.target, ...counts.map((count) => count / Math.max(step, 1)), 0.1);
  const slot = (width - left - 16) / m, bar = slot * 0.36, y = (share) => top + height * (1 - share / most);
  for (const part of [0, 0.5, 1]) {
    shape("line", { x1: left, x2: width - 16, y1: y(part * most), y2: y(part * most), stroke: "#DDDDDD" }, svg);
    shape("text", { x: left - 6, y: y(part * most) + 4, "text-anchor": "end" }, svg, `${Math.round(100 * part * most)} %`);
  }
  const held = step ? level.held[seed][step - 1] : null, proposed = step ? chain.proposals[seed][step - 1] : null;
  for (let k = 0; k < m; k++) {
    const x = left + slot * (k + 0.5);
    const pair = [[level.target[k], GREY, x - bar], [counts[k] / Math.max(step, 1), BLUE, x]];
    for (const [share, fill, from] of pair)
      shape("rect", { x: from, y: y(share), width: bar, height: top + height - y(share), fill }, svg);
    const size = Math.min(slot - 6, 34), frame = { x: x - size / 2, y: top + height + 8, width: size, height: size };
    shape("image", { ...frame, href: images[k], style: "image-rendering: pixelated" }, svg);
    const accepted = step && level.accepted[seed][step - 1];
    const stroke = k === proposed ? (accepted ? GREEN : VERMILION) : k === held ? BLUE : "none";
    const dash = k === proposed && !accepted ? "4 3" : "none";
    shape("rect", { ...frame, fill: "none", stroke, "stroke-width": 3, "stroke-dasharray": dash }, svg);
    shape("text", { x, y: top + height + 58, "text-anchor": "middle" }, svg, k === held ? `${k} held` : `${k}`);
  }
  return top + height + 68;
}

function distances(svg, level, seed, step, width, top) {
  const left = 48, height = 130, steps = level.bound.length;
  shape("text", { x: 4, y: top - 12 }, svg, "total variation to the softmax, 0 to 1");
  const x = (t) => left + ((width - left - 16) * t) / steps, y = (value) => top + height * (1 - value);
  for (const value of [0, 0.5, 1]) {
    shape("line", { x1: left, x2: width - 16, y1: y(value), y2: y(value), stroke: "#DDDDDD" }, svg);
    shape("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, svg, value);
  }
  for (let t = 0; t <= steps; t += 50) shape("text", { x: x(t), y: top + height + 16, "text-anchor": "middle" }, svg, t);
  shape("text", { x: (left + width) / 2, y: top + height + 33, "text-anchor": "middle" }, svg, "step");
  const line = (values, stroke, dash) =>
    shape("polyline", {
      points: values.slice(0, step).map((value, t) => `${x(t + 1)},${y(value)}`).join(" "),
      fill: "none", stroke, "stroke-width": 2, "stroke-dasharray": dash,
    }, svg);
  line(level.bound, VERMILION, "7 4");
  line(level.law, GREEN, "2 3");
  line(level.distance[seed], BLUE, "none");
  return top + height + 40;
}

function render({ model, el }) {
  const chain = model.get("chain"), images = chain.images.map(picture);
  let [level, seed, step, timer] = [chain.start, 0, 0, null];
  const box = element("div", { className: "emc2-stepper" }, el);
  const row = element("div", { className: "emc2-row" }, box);
  const button = (text, action) => element("button", { type: "button", textContent: text, onclick: action }, row);
  button("Step", () => { pause(); move(); });
  const play = button("Play", () => (timer ? pause() : begin()));
  button("Reset", () => { pause(); step = 0; draw(); });
  button("New seed", () => { pause(); seed = (seed + 1) % chain.proposals.length; step = 0; draw(); });
  const choice = element("label", { className: "emc2-row", textContent: "temperature" }, row);
  const range = { type: "range", min: 0, max: chain.levels.length - 1, step: 1, value: level, ariaLabel: "temperature" };
  const slider = element("input", { ...range, oninput: () => { level = Number(slider.value); draw(); } }, choice);
  const shown = element("output", {}, choice);
  const said = element("p", { className: "emc2-said", role: "status" }, box);
  const svg = shape("svg", { role: "img" }, box);
  const key = element("p", { className: "emc2-key" }, box);
  const keys = { softmax: [GREY, "■"], histogram: [BLUE, "■"], proposed: [GREEN, "▢, accepted (dashed: rejected)"] };
  const lines = { "histogram's total variation": [BLUE, "━"], "distribution of the state": [GREEN, "┄"], bound: [VERMILION, "╌"] };
  for (const [name, [color, mark]] of Object.entries({ ...keys, ...lines })) {
    element("span", { textContent: mark[0], style: `color: ${color}` }, key);
    element("span", { textContent: ` ${name}${mark.slice(1)}   ` }, key);
  }

  function pause() { clearInterval(timer); timer = null; play.textContent = "Play"; }
  function begin() { timer = setInterval(move, PACE); play.textContent = "Pause"; }
  function move() {
    if (step < chain.proposals[seed].length) step += 1;
    if (step === chain.proposals[seed].length) pause();
    draw();
  }
  function draw() {
    const now = chain.levels[level], width = Math.max(280, Math.min(900, box.clientWidth || 668));
    shown.textContent = now.temperature;
    slider.setAttribute("aria-valuetext", now.temperature);
    svg.replaceChildren();
    const top = histogram(svg, chain, now, seed, step, width, images);
    const height = distances(svg, now, seed, step, width, top + 30);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    const at = (values) => values[step - 1].toFixed(2);
    const distance = step ? ` Total variation: histogram ${at(now.distance[seed])}, distribution ${at(now.law)}, bound ${at(now.bound)}.` : "";
    said.textContent = words(chain, now, seed, step) + distance;
    svg.setAttribute("aria-label", said.textContent);
  }
  draw();
  const sizes = new ResizeObserver(draw);
  sizes.observe(box);
  return () => { pause(); sizes.disconnect(); };
}

export default { render, words };
