// The book's figures: a picture at once, the moving figure when it comes near the screen. Nothing leaves the page.

const emc2Book = {
  waiting: {},
  figure(name, content) { this.waiting[name]?.(content); },
};

(() => {
  const STATIC = new URL(".", document.currentScript.src).href;
  const CONFIG = { displayModeBar: false, responsive: true };
  const scripts = {};

  function load(path) {
    scripts[path] ??= new Promise((resolve, reject) => {
      const script = Object.assign(document.createElement("script"), { src: STATIC + path, onload: resolve, onerror: reject });
      document.head.append(script);
    });
    return scripts[path];
  }

  // Two figures of a page may share their data, so the content is kept.
  const contents = {};
  function contentOf(name) {
    contents[name] ??= new Promise((resolve, reject) => {
      emc2Book.waiting[name] = resolve;
      load(`figures/${name}.js`).catch(reject);
    });
    return contents[name];
  }

  // What the notebooks' widgets ask of a kernel's model, held by the page.
  function model(values) {
    const heard = {};
    return {
      get: (name) => values[name],
      set(name, value) { values[name] = value; (heard[`change:${name}`] ?? []).forEach((tell) => tell()); },
      save_changes() {},
      on(event, tell) { (heard[event] ??= []).push(tell); },
    };
  }

  function place(box, className) {
    const made = Object.assign(document.createElement("div"), { className });
    box.append(made);
    return made;
  }

  async function plot(box, content) {
    await load("plotly.min.js");
    const controls = (content.controls ?? []).map((control) => ({ ...control, index: control.start }));
    const holders = controls.map(() => place(box, "emc2-place"));
    const drawn = place(box, "emc2-plot");
    drawn.style.height = `${content.layout.height ?? 420}px`;
    await Plotly.newPlot(drawn, structuredClone(content.data), structuredClone(content.layout), CONFIG);
    const describe = (text) => { drawn.setAttribute("role", "img"); drawn.setAttribute("aria-label", text); };
    describe(box.querySelector("img").alt);
    controls.forEach((control, number) => {
      const moved = model({ label: control.label, texts: control.texts, index: control.start });
      moved.on("change:index", async () => {
        control.index = moved.get("index");
        const state = controls.reduce((sum, one) => sum * one.texts.length + one.index, 0);
        await Plotly.update(drawn, ...structuredClone(content.changes[state]));
        describe(content.descriptions[state]);
        box.dataset.state = state;
      });
      emc2Book.control.render({ model: moved, el: holders[number] });
    });
  }

  async function draw(box) {
    try {
      const content = await contentOf(box.dataset.figure);
      if (content.chain) emc2Book.stepper.render({ model: model({ chain: content.chain }), el: place(box, "emc2-place") });
      else await plot(box, content);
      box.classList.add("emc2-drawn");
    } catch (error) {
      console.error(`figure ${box.dataset.figure}: ${error}`); // the picture stays
    }
  }

  function start() {
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((one) => one.isIntersecting)) {
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "400px" });
    document.querySelectorAll(".emc2-figure").forEach((box) => near.observe(box));
    // A wide formula, table or output scrolls by itself, and by keys.
    document.querySelectorAll("div.math, .table-wrapper, pre").forEach((box) => { box.tabIndex = 0; });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
