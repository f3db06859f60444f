// The fusion-weight explorer: sliders in, scores with their intervals out. All text enters as text, never as markup.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const prepared = Mixing.prepare(data), noise = Noise.prepare(prepared, data.chance);
  const k = data.classes.length, m = data.members.length, level = `${Mixing.fixed(100 * noise.level, 0)} %`;
  const state = { weights: [...data.presets[data.start]], rule: data.mix };

  const { make, draw } = Nodes;

  // As `worded` of document.py: a name moves to the next line as a whole, and one longer than a line breaks after a dot
  // or an underscore.
  function worded(text) {
    return text.split(/(\s+)/u).map((word) => {
      const parts = word.split(/(?<=\w[._/+@:=-]+)(?=\w)/u);
      if (parts.length < 2 || !/[^\W\d_]/u.test(word)) return word;
      const shown = word.length > data.short ? parts.flatMap((part, i) => (i ? [make("wbr"), part] : [part])) : [word];
      return make("span", { class: "name" }, ...shown);
    });
  }

  // What this mix decides, what it scores, and how far chance may have moved that.
  function judged(weights) {
    const decided = Mixing.decide(prepared, weights, state.rule);
    return { decided, found: Mixing.judge(prepared, decided) };
  }

  // ---- controls -------------------------------------------------------------------------------------------------

  function take(weights) {
    state.weights = [...weights];
    update();
  }

  const sliders = data.members.map((name, i) => {
    const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, id: `weight-${i}`, "aria-label": name });
    const shown = make("output", { for: `weight-${i}` });
    slider.addEventListener("input", () => {
      state.weights[i] = Number(slider.value);
      update();
    });
    return { slider, shown, row: make("div", { class: "slider" }, make("label", { for: `weight-${i}` }, ...worded(name)), slider, shown) };
  });

  const rules = ["arithmetic", "geometric", "harmonic", "rank"].map((rule) => {
    const radio = make("input", { type: "radio", name: "rule", value: rule, id: `rule-${rule}` });
    radio.addEventListener("change", () => {
      state.rule = rule;
      surveyed = null;
      update();
      survey();
    });
    return { rule, radio, row: make("label", { for: `rule-${rule}` }, radio, ` ${rule}`) };
  });

  const presets = Object.entries(data.presets).map(([words, weights]) => {
    const button = make("button", { type: "button", "aria-label": words }, ...worded(words));
    button.addEventListener("click", () => take(weights));
    return button;
  });

  // ---- figures --------------------------------------------------------------------------------------------------

  const figures = [["Accuracy", "accuracy"], ["Macro F1", "macro-f1"]].map(([words, id]) => {
    const shown = make("output", { id }), interval = make("small", { id: `${id}-interval` });
    return { shown, interval, row: make("div", {}, make("dt", {}, words), make("dd", {}, shown, interval)) };
  });
  const spoken = make("p", { class: "spoken", "aria-live": "polite" });
  const verdict = make("p", { class: "note", id: "verdict" });

  const bars = data.classes.map((name, c) => {
    const cells = ["recall", "f1"].map((what) => {
      const shown = make("span", { id: `${what}-${c}` }), interval = make("small", { id: `${what}-${c}-interval` });
      return { shown, interval, cell: make("td", { class: `bar ${what}` }, shown, interval) };
    });
    const support = prepared.y.reduce((sum, y) => sum + (y === c), 0);
    return { cells, row: make("tr", {}, make("th", { scope: "row" }, name, " ", make("small", {}, String(support))), ...cells.map(({ cell }) => cell)) };
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
      slider.setAttribute("aria-valuetext", shown.textContent.replace("  =", ","));
    });
    rules.forEach(({ rule, radio }) => (radio.checked = rule === state.rule));
    place.classList.toggle("void", !total);
    if (!total) {
      for (const { shown, interval } of figures) shown.textContent = "–", interval.textContent = "";
      spoken.textContent = "All weights are 0: nothing is mixed. Raise one.";
      verdict.textContent = "";
      return;
    }
    const { found, decided } = judged(state.weights), ends = Noise.intervals(noise, found, decided);
    [[found.accuracy, ends.accuracy], [found.macroF1, ends.macroF1]].forEach(([share, both], i) => {
      figures[i].shown.textContent = `${Mixing.percent(share)} %`;
      figures[i].interval.textContent = Mixing.interval(both);
    });
    spoken.textContent = figures.map(({ shown, interval }, i) => `${i ? "macro F1" : "accuracy"} ${shown.textContent} ${interval.textContent}`).join(", ");
    bars.forEach(({ cells }, c) => {
      [[found.recall[c], ends.recall[c]], [found.f1[c], ends.f1[c]]].forEach(([share, both], i) => {
        const { shown, interval, cell } = cells[i], [low, high] = both || [0, 0];
        shown.textContent = Mixing.percent(share);
        interval.textContent = Mixing.interval(both);
        const places = { share: Number.isNaN(share) ? 0 : share, low, high };
        for (const [name, value] of Object.entries(places)) cell.style.setProperty(`--${name}`, 100 * value);
      });
    });
    found.confusion.forEach((counts, t) => counts.forEach((count, c) => paintCell(cells[t][c], count, found.supports[t], t === c)));
    showPlace(total);
    showVerdict(found, decided);
  }

  function paintCell(cell, count, support, right) {
    const share = support ? (100 * count) / support : 0;
    cell.style.setProperty("--share", share.toFixed(1)); // as written by matrix_html: no share is where the text turns
    cell.className = [right && "right", !count && "none"].filter(Boolean).join(" ");
    cell.replaceChildren(...(support ? [Mixing.fixed(share, 0), make("small", {}, String(count))] : ["–"]));
  }

  // ---- all mixes: which of them cannot be told from the best ----------------------------------------------------

  let surveyed = null, surveying = 0;

  // Judges every mix of the grid, in pieces between which the page stays alive.
  function survey() {
    const mine = ++surveying, rule = state.rule, values = [], draws = [];
    verdict.textContent = `Judging ${data.vectors.length} mixes …`;
    function some() {
      if (mine !== surveying) return; // another rule was chosen meanwhile
      const until = performance.now() + 12;
      while (values.length < data.vectors.length && performance.now() < until) {
        const { found, decided } = judged(data.vectors[values.length]);
        values.push(found.macroF1), draws.push(Noise.drawn(noise, found, decided));
      }
      if (values.length < data.vectors.length) return requestAnimationFrame(some);
      const alike = Noise.alike(values, draws, noise.level), best = Math.max(...values);
      surveyed = { values, draws, alike, best, size: alike.filter(Boolean).length };
      place.dataset.surveyed = rule;
      paintMap();
      update();
    }
    requestAnimationFrame(some);
  }

  function showVerdict(found, decided) {
    if (!surveyed) return;
    const { values, draws, best, size } = surveyed;
    const mixed = [...draws, Noise.drawn(noise, found, decided)];
    const among = Noise.alike([...values, found.macroF1], mixed, noise.level)[values.length];
    verdict.textContent = `Of ${values.length} mixes ${size === 1 ? "only the best is" : `${size} are`} in the model confidence set (${level}): ` +
      `nothing tells them from the best, ${Mixing.percent(best, 1)} %. These weights are ${among ? "among them" : "worse"}.`;
  }

  // ---- the map: macro F1 of all shares of two or three members; of more, the best macro F1 of each share ----------

  const HEIGHT = Math.sqrt(3) / 2, SIDE = 300, LEFT = 14, TOP = 14;
  const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]]; // viridis, five stops
  const ALIKE = 1 / 4; // share of the colours that mixes which nothing tells apart may take, as in sweeps/figure.py
  const units = Math.round(1 / Math.min(...data.vectors.flat().filter(Boolean)));
  const steps = data.vectors.map((shares) => shares.map((share) => Math.round(share * units)));
  const flat = m <= 3;
  const where = (shares) => [LEFT + SIDE * (shares[1] + (shares[2] ?? 0) / 2), TOP + (m === 3 ? SIDE * HEIGHT * (1 - shares[2]) : 0)];

  // A tile: its key is what the arrow keys change, its vector the mix that it shows and gives.
  const tiles = flat
    ? steps.map((key, i) => ({ key, row: key[2] ?? 0, at: where(data.vectors[i]), vector: i }))
    : data.members.flatMap((_, row) => Array.from({ length: units + 1 }, (_, share) => ({ key: [share, row], row, at: [LEFT + (SIDE * share) / units, TOP], vector: null })));
  const rings = ["ring halo", "ring"].map((cls) => draw("polygon", { class: cls }));
  const marks = Array.from({ length: flat ? 1 : m }, () => draw("circle", { r: 9, cy: TOP, class: "mark" }));
  const scale = make("p", { class: "legend" }), legend = make("p", { class: "note", id: "scale" });
  const readout = make("p", { class: "readout", id: "readout" }, "Point at a tile, or go there by keyboard, to read its score and interval.");
  let current = 0;

  function colour(share) {
    const x = Math.min(3.9999, Math.max(0, share) * 4), low = Math.floor(x);
    return `rgb(${RAMP[low].map((value, i) => Math.round(value + (x - low) * (RAMP[low + 1][i] - value))).join(" ")})`;
  }

  function corners([x, y], size = 1) {
    const radius = (size * SIDE) / units / Math.sqrt(3), half = (size * SIDE) / units / 2;
    const around = m === 3 ? [0, 1, 2, 3, 4, 5].map((i) => (i * Math.PI) / 3 + Math.PI / 6).map((angle) => [radius * Math.cos(angle), radius * Math.sin(angle)])
      : [[-half, -12], [half, -12], [half, 12], [-half, 12]];
    return around.map(([dx, dy]) => `${(x + dx).toFixed(2)},${(y + dy).toFixed(2)}`).join(" ");
  }

  function plane() {
    const words = flat ? `Macro F1 of all shares of ${data.members.join(", ")}.` : "Best macro F1 of each share of each member.";
    const named = { role: "grid", "aria-label": `${words} Arrow keys move, Enter takes a tile's weights.`, "aria-multiselectable": !flat, id: "map" };
    tiles.forEach((one, i) => {
      one.tile = draw("polygon", { points: corners(one.at), class: "tile", role: "gridcell", tabindex: i ? -1 : 0, "data-tile": i });
      one.dot = draw("circle", { cx: one.at[0], cy: one.at[1], r: 2.2, class: "dot" });
      one.tile.addEventListener("click", () => one.vector !== null && take(data.vectors[one.vector]));
      one.tile.addEventListener("focus", () => point(i));
      one.tile.addEventListener("mouseenter", () => describe(i));
    });
    const sheet = (height, attributes) => draw("svg", { viewBox: `0 0 ${SIDE + 2 * LEFT} ${height + 2 * TOP}`, ...attributes });
    const over = (row) => [...row.map(({ dot }) => dot), marks[flat ? 0 : row[0].row]];
    const rows = Array.from({ length: flat ? (m === 3 ? units + 1 : 1) : m }, (_, i) => tiles.filter(({ row }) => row === i));
    const ends = (...texts) => make("div", { class: "corners" }, ...texts.map((text) => make("span", {}, ...worded(text))));
    const only = data.members.map((name) => `${name} only`);
    let grid;
    if (flat) {
      grid = sheet(m === 3 ? SIDE * HEIGHT : 0, named);
      for (const row of rows.reverse()) {
        const group = draw("g", { role: "row" });
        group.append(...row.map(({ tile }) => tile));
        grid.append(group);
      }
      grid.append(...over(tiles), ...rings);
    } else {
      grid = make("div", named, ...rows.map((row, i) => {
        const strip = sheet(0, { role: "none" });
        strip.append(...row.map(({ tile }) => tile), ...over(row));
        return make("div", { role: "row" }, make("span", { role: "rowheader" }, ...worded(data.members[i])), strip);
      }));
    }
    grid.addEventListener("keydown", obey);
    return make("div", { class: "plane" }, ...(m === 3 ? [ends(only[2])] : []), grid, ends(...(flat ? only.slice(0, 2) : ["share 0 %", "100 %"])));
  }

  function map() {
    const peeking = "Chosen by these rows, the best of the map is biased upward: choose on inner folds, and look here to understand.";
    return make("div", { class: "map" }, make("h3", {}, flat ? "Macro F1 of every mix" : "Best macro F1 of every share"), plane(), scale, readout, legend,
      make("p", { class: "hint" }, `Click a tile to take its weights, or go there with the arrow keys and press Enter. ${peeking}`));
  }

  // Where an arrow key leads: left and right change a share, up and down the third member's, or the member.
  function towards(key) {
    if (!flat) {
      const [share, row] = tiles[current].key;
      return { ArrowRight: [share + 1, row], ArrowLeft: [share - 1, row], ArrowUp: [share, row - 1], ArrowDown: [share, row + 1], Home: [0, row], End: [units, row] }[key];
    }
    const [a, b, c] = tiles[current].key;
    return {
      ArrowRight: [a - 1, b + 1, c], ArrowLeft: [a + 1, b - 1, c],
      ArrowUp: a ? [a - 1, b, c + 1] : [a, b - 1, c + 1], ArrowDown: [a + 1, b, c - 1],
      Home: [a + b, 0, c], End: [0, a + b, c],
    }[key];
  }

  function obey(event) {
    const to = towards(event.key), { vector } = tiles[current];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (to) tiles.find(({ key }) => key.every((value, i) => value === to[i]))?.tile.focus();
    else if ((event.key === "Enter" || event.key === " ") && vector !== null) take(data.vectors[vector]);
    else return;
    event.preventDefault();
  }

  function point(i) {
    tiles[current].tile.setAttribute("tabindex", -1);
    tiles[i].tile.setAttribute("tabindex", 0);
    current = i;
    for (const ring of rings) ring.setAttribute("points", corners(tiles[i].at, 1.15));
    tiles[i].tile.ownerSVGElement.append(...rings);
    describe(i);
  }

  function sharesOf({ key, row, vector }) {
    const shares = data.members.map((name, j) => `${name} ${data.vectors[vector][j].toFixed(2)}`);
    return flat ? shares.join(", ") : `${shares[row]}, at best with ${shares.filter((_, j) => j !== row).join(", ")}`;
  }

  const told = (vector) => (surveyed.alike[vector] ? "cannot be told from the best" : "worse than the best");

  function describe(i) {
    if (!surveyed) return;
    const { tile, vector } = tiles[i], { found, decided } = judged(data.vectors[vector]), { macroF1 } = Noise.intervals(noise, found, decided);
    const words = `${sharesOf(tiles[i])}: macro F1 ${Mixing.percent(found.macroF1)} % ${Mixing.interval(macroF1)}, ${told(vector)}`;
    tile.setAttribute("aria-label", words);
    readout.replaceChildren(...worded(words));
  }

  function bestOf(share, member) {
    const { values } = surveyed;
    return steps.reduce((best, step, i) => (step[member] === share && (best === null || values[i] > values[best]) ? i : best), null);
  }

  function paintMap() {
    const { values, alike, best, size } = surveyed;
    if (!flat) for (const one of tiles) one.vector = bestOf(...one.key);
    const worst = Math.min(...tiles.map(({ vector }) => values[vector])), gap = best - Math.min(...values.filter((_, i) => alike[i]));
    const low = Math.min(worst, best - gap / ALIKE), end = Math.max(0, low); // no score is below 0, but colours may be
    const shade = (value) => colour((value - low) / (best - low || 1));
    for (const { tile, dot, vector, ...one } of tiles) {
      tile.setAttribute("fill", shade(values[vector]));
      tile.setAttribute("aria-label", `${sharesOf({ vector, ...one })}: macro F1 ${Mixing.percent(values[vector], 1)} %, ${told(vector)}`);
      tile.dataset.vector = vector;
      tile.dataset.alike = alike[vector];
      dot.setAttribute("visibility", alike[vector] ? "visible" : "hidden");
    }
    const ramp = make("span", { class: "ramp" });
    ramp.style.setProperty("background", `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((share) => shade(end + share * (best - end))).join(", ")})`);
    scale.replaceChildren(`${Mixing.percent(end, 1)} % `, ramp, ` ${Mixing.percent(best, 1)} %`);
    const set = size === values.length ? `None of ${size} mixes can` : `${size} of ${values.length} mixes cannot`;
    legend.textContent = `${set} be told from the best (model confidence set, ${level}); ${flat ? "a dot marks them" : "a dot marks the shares they have"}. ` +
      `They lie within ${Mixing.percent(gap, 1)} points, which is at most a quarter of the colours: the scale runs from ${Mixing.percent(end, 1)} % to the best, ` +
      `${worst > low ? "further down than any tile" : "the worst tile at its end"}, so that noise is not drawn as a landscape.`;
    if (tiles[current].tile === document.activeElement) describe(current);
  }

  function showPlace(total) {
    const shares = state.weights.map((weight) => weight / total), same = (share, other) => Math.abs(share - other) < 1e-9;
    marks.forEach((mark, i) => {
      const [x, y] = flat ? where(shares) : [LEFT + SIDE * shares[i], TOP];
      mark.setAttribute("cx", x);
      mark.setAttribute("cy", y);
    });
    for (const { tile, key, row, vector } of tiles) {
      tile.setAttribute("aria-selected", flat ? data.vectors[vector].every((share, j) => same(share, shares[j])) : same(key[0] / units, shares[row]));
    }
  }

  // ---- putting it together --------------------------------------------------------------------------------------

  const place = document.getElementById("explorer");
  const long = data.members.some((name) => name.length > 26) ? "sliders long" : "sliders";
  const way = noise.groups ? "jackknife over whole groups" : `Wilson for accuracy, else percentiles of ${noise.resamples.toLocaleString("en")} stratified resamples`;
  const controls = make("div", { class: "controls" },
    make("fieldset", { class: long }, make("legend", {}, "Weights (only proportions matter)"), ...sliders.map(({ row }) => row)),
    make("fieldset", { class: "rules" }, make("legend", {}, "Mixing rule"), ...rules.map(({ row }) => row)),
    make("div", { class: "presets" }, ...presets),
    make("dl", { class: "figures" }, ...figures.map(({ row }) => row)),
    verdict, spoken,
    make("p", { class: "note" }, `In brackets and as lines: ${level} intervals (${way}). ${data.chance.warning ?? ""}`));
  const classes = table("bars", "Per class (%)", make("tr", {}, header("Class, rows"), header("accuracy"), header("F1")), bars.map(({ row }) => row));
  const matrix = table("matrix", "Confusion matrix of this mix",
    make("tr", {}, make("td", { class: "corner" }, "true \\ predicted"), ...data.classes.map(header)),
    data.classes.map((name, t) => make("tr", {}, make("th", { scope: "row" }, name), ...cells[t])));
  place.replaceChildren(make("div", {}, controls, classes), make("div", {}, map(), matrix));
  update();
  survey();
})();
