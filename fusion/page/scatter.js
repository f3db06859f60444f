// Rows on a plane: dots that a column got right, crosses that it got wrong. All text enters as text, never as markup.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("scatter-data").textContent);
  const n = data.x.length, SIDE = 560, EDGE = 14, NEAR = 18; // of the drawing's units
  const wide = 2 * Math.max(...data.x.map(Math.abs)), tall = 2 * Math.max(...data.y.map(Math.abs)); // the longer is 1
  const height = Math.max(220, SIDE * Math.min(1, tall)), across = Math.max(220, SIDE * Math.min(1, wide));
  const at = data.x.map((x, i) => [EDGE + across / 2 + x * SIDE, EDGE + height / 2 - data.y[i] * SIDE]);
  const state = { column: 0, truth: -1, right: true, current: -1, wrong: [] };

  const { make, draw } = Nodes;

  const place = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const dots = (rows) => rows.map((i) => `M${place(at[i])}h0`).join("");
  const crosses = (points) => points.map(([x, y]) => `M${place([x - 4, y - 4])}l8 8m0 -8l-8 8`).join("");

  // ---- the drawing ------------------------------------------------------------------------------------------------

  const right = draw("path", { class: "right" }), halo = draw("path", { class: "wrong halo" }), wrong = draw("path", { class: "wrong" });
  const rings = ["picked halo", "picked"].map((cls) => draw("circle", { class: cls, r: 10, visibility: "hidden" }));
  const plane = draw("svg", {
    viewBox: `0 0 ${across + 2 * EDGE} ${height + 2 * EDGE}`, tabindex: 0, role: "application", id: "scatter-plane",
    "aria-label": "Map of the errors. Arrow keys go to the next error in their direction, Page Down and Page Up from the surest to the least sure, Home and End to the first and last of these.",
    "aria-describedby": "scatter-readout",
  });
  plane.append(right, halo, wrong, ...rings);
  const count = make("p", { class: "note", id: "scatter-count" });
  const words = make("p", {}, "Point at a cross, or go from one to the next by keyboard, to read what it is.");
  const face = make("img", { alt: "", hidden: "" });
  const readout = make("div", { class: "readout", id: "scatter-readout", "aria-live": "polite" }, face, words);

  function sign(cls, path) {
    const shown = draw("svg", { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" });
    shown.append(draw("path", { class: cls, d: path }));
    return shown;
  }

  // ---- what is chosen ---------------------------------------------------------------------------------------------

  function chooser(name, texts, take) {
    const select = make("select", { id: `scatter-${name.toLowerCase()}` }, ...texts.map((text, i) => make("option", { value: i }, text)));
    select.addEventListener("change", () => (take(Number(select.value)), update()));
    return make("label", {}, `${name} `, select);
  }

  const columns = chooser("Column", data.columns.map(({ name }) => name), (i) => (state.column = i));
  const classes = chooser("Class", ["all classes", ...data.classes], (i) => (state.truth = i - 1));
  const shown = make("input", { type: "checkbox", id: "scatter-right", checked: "" });
  shown.addEventListener("change", () => ((state.right = shown.checked), update()));

  function update() {
    const { predicted, confidence } = data.columns[state.column];
    const rows = Array.from({ length: n }, (_, i) => i).filter((i) => state.truth < 0 || data.truth[i] === state.truth);
    const good = rows.filter((i) => predicted[i] === data.truth[i]);
    state.wrong = rows.filter((i) => predicted[i] !== data.truth[i]).sort((i, j) => confidence[j] - confidence[i] || i - j);
    right.setAttribute("d", state.right ? dots(good) : "");
    for (const path of [halo, wrong]) path.setAttribute("d", crosses(state.wrong.map((i) => at[i])));
    count.textContent = `${state.wrong.length} of ${rows.length} rows are wrong.`;
    if (!state.wrong.includes(state.current)) go(-1);
    else go(state.current);
  }

  // ---- one error --------------------------------------------------------------------------------------------------

  function go(i) {
    state.current = i;
    for (const ring of rings) {
      ring.setAttribute("visibility", i < 0 ? "hidden" : "visible");
      if (i >= 0) ring.setAttribute("cx", at[i][0]), ring.setAttribute("cy", at[i][1]);
    }
    plane.dataset.row = i;
    describe(i);
  }

  const named = (text) => make("bdi", {}, text); // a name written from right to left turns nothing but itself

  function describe(i) {
    if (i < 0) return words.textContent = "Point at a cross, or go from one to the next by keyboard, to read what it is.", face.setAttribute("hidden", "");
    const { name, predicted, confidence } = data.columns[state.column], picture = data.thumbnails[i];
    const id = data.ids ? [named(data.ids[i]), ": "] : [];
    words.replaceChildren(
      ...id, named(data.classes[data.truth[i]]), ", taken for ", named(data.classes[predicted[i]]), " by ", named(name),
      ` (${Math.round(100 * confidence[i])} % sure).`);
    if (!picture) return face.setAttribute("hidden", "");
    face.setAttribute("src", `data:image/jpeg;base64,${picture}`);
    face.setAttribute("alt", "the picture");
    face.removeAttribute("hidden");
  }

  // The error that is nearest in a direction: what lies aside counts double.
  function towards([dx, dy]) {
    const from = state.current < 0 ? [EDGE + across / 2, EDGE + height / 2] : at[state.current];
    let best = -1, least = Infinity;
    for (const i of state.wrong) {
      const [x, y] = [at[i][0] - from[0], at[i][1] - from[1]], along = x * dx + y * dy, aside = Math.abs(x * dy - y * dx);
      if (i === state.current || along <= 0 || aside > 3 * along) continue;
      const far = along + 2 * aside;
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  function obey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !state.wrong.length) return;
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    const steps = { PageDown: 1, PageUp: -1 }, rank = state.wrong.indexOf(state.current), last = state.wrong.length - 1;
    let to = -1;
    if (ways[event.key]) to = towards(ways[event.key]);
    else if (steps[event.key]) to = state.wrong[Math.min(last, Math.max(0, rank + steps[event.key]))];
    else if (event.key === "Home") to = state.wrong[0];
    else if (event.key === "End") to = state.wrong[last];
    else return;
    if (to >= 0) go(to);
    event.preventDefault();
  }

  function under(event) {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(plane.getScreenCTM().inverse());
    let best = -1, least = NEAR * NEAR;
    for (const i of state.wrong) {
      const far = (at[i][0] - x) ** 2 + (at[i][1] - y) ** 2;
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  plane.addEventListener("keydown", obey);
  plane.addEventListener("mousemove", (event) => {
    const i = under(event);
    if (i >= 0 && i !== state.current) go(i);
  });
  plane.addEventListener("click", (event) => go(under(event)));

  // ---- putting it together ----------------------------------------------------------------------------------------

  const controls = make("div", { class: "chosen" }, ...(data.columns.length > 1 ? [columns] : []), classes, make("label", {}, shown, " right answers too"));
  const legend = make("p", { class: "signs" }, sign("wrong", "M3 3l8 8m0 -8l-8 8"), " wrong ", sign("right", "M7 7h0"), " right");
  const axes = make("p", { class: "note" }, `To the right: ${data.axes[0]}. Upwards: ${data.axes[1]}.`);
  document.getElementById("scatter").replaceChildren(
    make("div", { class: "drawn" }, controls, legend, plane, axes), make("div", { class: "told" }, count, readout));
  update();
})();
