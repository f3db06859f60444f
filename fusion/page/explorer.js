// The fusion-weight explorer: sliders in, scores out. All text enters as text, never as markup.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const prepared = Mixing.prepare(data);
  const k = data.classes.length, m = data.members.length;
  const DEEP = 55; // share in percent above which a cell's text is light, as in matrix.py
  const state = { weights: [...data.presets[data.start]], rule: data.mix };

  function make(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function draw(name, attributes = {}) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  }

  // ---- controls -------------------------------------------------------------------------------------------------

  const sliders = data.members.map((name, i) => {
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, id: `weight-${i}` });
    const shown = make("output", { for: `weight-${i}` });
    slider.addEventListener("input", () => {
      state.weights[i] = Number(slider.value);
      update();
    });
    return { slider, shown, row: make("div", { class: "slider" }, make("label", { for: `weight-${i}` }, name), slider, shown) };
  });

  const rules = ["arithmetic", "geometric", "harmonic", "rank"].map((rule) => {
    const radio = make("input", { type: "radio", name: "rule", value: rule, id: `rule-${rule}` });
    radio.addEventListener("change", () => {
      state.rule = rule;
      update();
      paintMap();
    });
    return { rule, radio, row: make("label", { for: `rule-${rule}` }, radio, ` ${rule}`) };
  });

  const presets = Object.entries(data.presets).map(([words, weights]) => {
    const button = make("button", { type: "button" }, words);
    button.addEventListener("click", () => {
      state.weights = [...weights];
      update();
    });
    return button;
  });

  // ---- figures --------------------------------------------------------------------------------------------------

  const accuracy = make("output", { id: "accuracy" }), macroF1 = make("output", { id: "macro-f1" });
  const spoken = make("p", { class: "spoken", "aria-live": "polite" });

  const bars = data.classes.map((name, c) => {
    const cells = ["recall", "f1"].map((what) => make("td", { class: `bar ${what}`, id: `${what}-${c}` }));
    const support = prepared.y.reduce((sum, y) => sum + (y === c), 0);
    return { cells, row: make("tr", {}, make("th", { scope: "row" }, name, " ", make("small", {}, String(support))), ...cells) };
  });

  const cells = data.classes.map((_, t) => data.classes.map((_, c) => make("td", { id: `cell-${t}-${c}` })));

  function table(cls, caption, head, rows) {
    const frame = make("table", { class: cls }, make("caption", {}, caption));
    frame.append(make("thead", {}, head), make("tbody", {}, ...rows));
    return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, frame);
  }

  const header = (words) => make("th", { scope: "col" }, make("span", {}, words));

  function update() {
    const total = state.weights.reduce((sum, weight) => sum + weight, 0);
    sliders.forEach(({ slider, shown }, i) => {
      slider.value = state.weights[i];
      shown.textContent = state.weights[i].toFixed(2) + (total ? `  = ${(100 * state.weights[i] / total).toFixed(0)} %` : "");
    });
    rules.forEach(({ rule, radio }) => (radio.checked = rule === state.rule));
    place.classList.toggle("void", !total);
    if (!total) {
      accuracy.textContent = macroF1.textContent = "–";
      spoken.textContent = "All weights are 0: nothing is mixed. Raise one.";
      return;
    }
    const found = Mixing.judge(prepared, Mixing.decide(prepared, state.weights, state.rule));
    accuracy.textContent = `${Mixing.percent(found.accuracy)} %`;
    macroF1.textContent = `${Mixing.percent(found.macroF1)} %`;
    spoken.textContent = `accuracy ${accuracy.textContent}, macro F1 ${macroF1.textContent}`;
    bars.forEach(({ cells }, c) => {
      [found.recall[c], found.f1[c]].forEach((share, i) => {
        cells[i].textContent = Mixing.percent(share);
        cells[i].style.setProperty("--share", Number.isNaN(share) ? 0 : 100 * share);
      });
    });
    found.confusion.forEach((counts, t) => counts.forEach((count, c) => paintCell(cells[t][c], count, found.supports[t], t === c)));
    moveMark(total);
  }

  function paintCell(cell, count, support, right) {
    const share = support ? (100 * count) / support : 0;
    cell.style.setProperty("--share", share);
    cell.className = [share > DEEP && "deep", right && "right", !count && "none"].filter(Boolean).join(" ");
    cell.replaceChildren(...(support ? [Mixing.fixed(share, 0), make("small", {}, String(count))] : ["–"]));
  }

  // ---- the triangle: macro F1 of all shares of three members ----------------------------------------------------

  const STEPS = 20, HEIGHT = Math.sqrt(3) / 2, SIDE = 300, LEFT = 50, TOP = 34;
  const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis, five stops
  const tiles = [];
  let mark = null, legend = null, painting = 0;

  const at = (shares) => [LEFT + SIDE * (shares[1] + shares[2] / 2), TOP + SIDE * HEIGHT * (1 - shares[2])];

  function colour(share) {
    const x = Math.min(3.9999, Math.max(0, share) * 4), low = Math.floor(x);
    return `rgb(${RAMP[low].map((value, i) => Math.round(value + (x - low) * (RAMP[low + 1][i] - value))).join(" ")})`;
  }

  function triangle() {
    const words = `Macro F1 of all shares of ${data.members.join(", ")}; the sliders set the same weights.`;
    const map = draw("svg", { viewBox: "0 0 400 340", role: "img", "aria-label": words, id: "map" });
    const radius = SIDE / STEPS / Math.sqrt(3);
    for (let a = 0; a <= STEPS; a++) {
      for (let b = 0; a + b <= STEPS; b++) {
        const shares = [a, b, STEPS - a - b].map((part) => part / STEPS), [x, y] = at(shares);
        const corners = [0, 1, 2, 3, 4, 5].map((i) => (i * Math.PI) / 3 + Math.PI / 6);
        const points = corners.map((angle) => `${(x + radius * Math.cos(angle)).toFixed(2)},${(y + radius * Math.sin(angle)).toFixed(2)}`);
        const tile = draw("polygon", { points: points.join(" "), class: "tile" }), title = draw("title");
        tile.append(title);
        tile.addEventListener("click", () => {
          state.weights = [...shares];
          update();
        });
        tiles.push({ shares, tile, title });
        map.append(tile);
      }
    }
    const corners = [[at([1, 0, 0]), 0, 26, "start"], [at([0, 1, 0]), 0, 26, "end"], [at([0, 0, 1]), 0, -16, "middle"]];
    corners.forEach(([[x, y], dx, dy, anchor], i) => {
      const pull = anchor === "start" ? -22 : anchor === "end" ? 22 : 0;
      const text = draw("text", { x: x + dx + pull, y: y + dy, "text-anchor": anchor });
      text.textContent = data.members[i];
      map.append(text);
    });
    mark = draw("circle", { r: 9, class: "mark" });
    map.append(mark);
    legend = make("p", { class: "legend" });
    const peeking = "Chosen by these rows, the best of the map is biased upward: choose on inner folds, and look here to understand.";
    return make("div", { class: "map" }, make("h3", {}, "Macro F1 of every mix"), map, legend, make("p", { class: "hint" }, `Click a tile to take its weights. ${peeking}`));
  }

  function paintMap() {
    if (m !== 3) return;
    const mine = ++painting, rule = state.rule, values = [];
    function some() {
      if (mine !== painting) return; // another rule was chosen meanwhile
      const until = performance.now() + 12;
      while (values.length < tiles.length && performance.now() < until) {
        values.push(Mixing.judge(prepared, Mixing.decide(prepared, tiles[values.length].shares, rule)).macroF1);
      }
      if (values.length < tiles.length) return requestAnimationFrame(some);
      const low = Math.min(...values), high = Math.max(...values);
      values.forEach((value, i) => {
        tiles[i].tile.setAttribute("fill", colour((value - low) / (high - low || 1)));
        tiles[i].title.textContent = `${data.members.map((name, j) => `${name} ${tiles[i].shares[j].toFixed(2)}`).join(", ")}: macro F1 ${Mixing.percent(value)} %`;
      });
      const ramp = make("span", { class: "ramp" });
      ramp.style.setProperty("background", `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(colour).join(", ")})`);
      legend.replaceChildren(`${Mixing.percent(low)} % `, ramp, ` ${Mixing.percent(high)} %`);
      legend.dataset.rule = rule;
    }
    requestAnimationFrame(some);
  }

  function moveMark(total) {
    if (!mark) return;
    const [x, y] = at(state.weights.map((weight) => weight / total));
    mark.setAttribute("cx", x);
    mark.setAttribute("cy", y);
  }

  // ---- putting it together --------------------------------------------------------------------------------------

  const place = document.getElementById("explorer");
  const controls = make("div", { class: "controls" },
    make("fieldset", {}, make("legend", {}, "Weights (only proportions matter)"), ...sliders.map(({ row }) => row)),
    make("fieldset", { class: "rules" }, make("legend", {}, "Mixing rule"), ...rules.map(({ row }) => row)),
    make("div", { class: "presets" }, ...presets),
    make("dl", { class: "figures" }, make("div", {}, make("dt", {}, "Accuracy"), make("dd", {}, accuracy)), make("div", {}, make("dt", {}, "Macro F1"), make("dd", {}, macroF1))),
    spoken);
  const classes = table("bars", "Per class (%)", make("tr", {}, header("Class, rows"), header("accuracy"), header("F1")), bars.map(({ row }) => row));
  const matrix = table("matrix", "Confusion matrix of this mix",
    make("tr", {}, make("td", { class: "corner" }, "true \\ predicted"), ...data.classes.map(header)),
    data.classes.map((name, t) => make("tr", {}, make("th", { scope: "row" }, name), ...cells[t])));
  place.replaceChildren(make("div", {}, controls, classes), make("div", {}, ...(m === 3 ? [triangle()] : []), matrix));
  update();
  paintMap();
})();
