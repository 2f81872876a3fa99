// A control with a short list of values: buttons for up to four, a slider for more. The value's place is `index`.

const MOST_BUTTONS = 4;

function element(tag, properties, parent) {
  const made = Object.assign(document.createElement(tag), properties);
  if (tag === "input") made.dataset.lmSuppressShortcuts = "true"; // while it has the focus, JupyterLab takes no keys
  parent.append(made);
  return made;
}

function buttons(texts, label, choose, parent) {
  const group = element("div", { className: "emc2-buttons", role: "radiogroup", ariaLabel: label }, parent);
  const name = `emc2-${Math.random().toString(36).slice(2)}`;
  const inputs = texts.map((text, place) => {
    const box = element("label", {}, group);
    const input = element("input", { type: "radio", name, onchange: () => choose(place) }, box);
    element("span", { textContent: text }, box);
    return input;
  });
  return (place) => (inputs[place].checked = true);
}

function slider(texts, label, choose, parent) {
  const range = { type: "range", min: 0, max: texts.length - 1, step: 1, ariaLabel: label };
  const input = element("input", range, parent);
  const output = element("output", {}, parent);
  input.oninput = () => choose(Number(input.value));
  return (place) => {
    input.value = place;
    input.setAttribute("aria-valuetext", texts[place]);
    output.textContent = texts[place];
  };
}

// The figure beside the control is as wide as its place, and has the description as its name for a screen reader.
function follow(model, el) {
  let box = null;
  const resize = () => window.dispatchEvent(new Event("resize"));
  const describe = () => {
    const plot = box?.querySelector(".js-plotly-plot");
    plot?.setAttribute("role", "img");
    plot?.setAttribute("aria-label", model.get("description"));
  };
  const sizes = new ResizeObserver(() => {
    describe();
    resize();
  });
  const drawn = new MutationObserver(() => {
    if (box.querySelector(".js-plotly-plot .main-svg")) {
      drawn.disconnect();
      describe();
      resize();
    }
  });
  requestAnimationFrame(() => {
    box = el.closest(".widget-vbox");
    if (box === null) return;
    drawn.observe(box, { childList: true, subtree: true });
    sizes.observe(box);
  });
  model.on("change:description", describe);
  return () => {
    drawn.disconnect();
    sizes.disconnect();
  };
}

function render({ model, el }) {
  const [label, texts] = [model.get("label"), model.get("texts")];
  const box = element("div", { className: "emc2-control" }, el);
  element("span", { className: "emc2-label", textContent: label }, box);
  const choose = (place) => {
    show(place);
    model.set("index", place);
    model.save_changes();
  };
  const show = (texts.length > MOST_BUTTONS ? slider : buttons)(texts, label, choose, box);
  element("span", { className: "emc2-hint", textContent: "keys ← →" }, box);
  show(model.get("index"));
  model.on("change:index", () => show(model.get("index")));
  return follow(model, el);
}

export default { render };
