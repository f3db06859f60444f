// Mixing members' probabilities: the arithmetic of fusion/heads/weights.py and fusion/judging/metrics.py, in double precision.
"use strict";

const Mixing = (() => {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // Members' scores under every rule (`terms` of weights.py), and which rows any mix can change: where all agree, so does every mix of them.
  function prepare(data) {
    const m = data.members.length, n = data.rows, k = data.classes.length;
    const proba = Float64Array.from(new Float32Array(bytes(data.proba).buffer)); // (m, n, k)
    const logs = proba.map((p) => Math.log(Math.max(p, data.smallest)));
    const scores = {
      arithmetic: proba,
      geometric: logs,
      harmonic: proba.map((p) => -1 / Math.max(p, data.smallest)),
      rank: wins(proba, k),
    };
    const agreed = new Int32Array(n), open = [];
    for (let row = 0; row < n; row++) {
      const firsts = data.members.map((_, i) => largest(proba.subarray((i * n + row) * k, (i * n + row + 1) * k)));
      agreed[row] = firsts[0];
      if (firsts.some((first) => first !== firsts[0])) open.push(row);
    }
    const groups = data.chance.groups ? new Uint32Array(bytes(data.chance.groups).buffer) : null;
    return { m, n, k, y: new Uint16Array(bytes(data.y).buffer), groups, scores, agreed, open };
  }

  // The share of all pairs of classes that a class wins, half a win for equals.
  function wins(proba, k) {
    return proba.map((p, place) => {
      const row = proba.subarray(place - (place % k), place - (place % k) + k);
      const won = row.reduce((sum, other) => sum + (p > other ? 1 : p === other ? 0.5 : 0), -0.5); // one tie is with itself
      return won / ((k * (k - 1)) / 2) + 1e-6 * p; // TIE_BREAK of weights.py
    });
  }

  // The first of equal ones, as argmax has it.
  function largest(values) {
    let best = 0;
    for (let c = 1; c < values.length; c++) if (values[c] > values[best]) best = c;
    return best;
  }

  // The class of every row under non-negative weights, not all zero.
  function decide(prepared, weights, rule) {
    const { m, n, k, scores, agreed, open } = prepared;
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const shares = weights.map((weight) => weight / total);
    const decided = Int32Array.from(agreed), mixed = new Float64Array(k), from = scores[rule];
    for (const row of open) {
      mixed.fill(0);
      for (let i = 0; i < m; i++) {
        const start = (i * n + row) * k;
        for (let c = 0; c < k; c++) mixed[c] += shares[i] * from[start + c];
      }
      decided[row] = largest(mixed);
    }
    return decided;
  }

  // Everything that is shown, off one confusion matrix: (k, k), row = truth.
  function judge(prepared, decided) {
    const { n, k, y } = prepared;
    const confusion = Array.from({ length: k }, () => new Array(k).fill(0));
    for (let row = 0; row < n; row++) confusion[y[row]][decided[row]]++;
    const supports = confusion.map((counts) => counts.reduce((sum, count) => sum + count, 0));
    const called = confusion.map((_, c) => confusion.reduce((sum, counts) => sum + counts[c], 0));
    const right = confusion.map((counts, c) => counts[c]);
    const recall = right.map((count, c) => (supports[c] ? count / supports[c] : NaN));
    const f1 = right.map((count, c) => (supports[c] + called[c] ? (2 * count) / (supports[c] + called[c]) : 0));
    return {
      confusion, supports, recall, f1,
      accuracy: right.reduce((sum, count) => sum + count, 0) / n,
      macroF1: f1.reduce((sum, value) => sum + value, 0) / k,
    };
  }

  // A number with so many decimals; exact halves, which only odd multiples of 2^-(digits + 1) are, go to the even digit
  // as Python writes them.
  function fixed(value, digits) {
    const twice = value * 2 ** (digits + 1), scale = 10 ** digits;
    if (!Number.isInteger(twice) || twice % 2 === 0) return value.toFixed(digits);
    const down = Math.floor(scale * value);
    return ((down + (down % 2)) / scale).toFixed(digits);
  }

  const percent = (share, digits = 2) => (Number.isNaN(share) ? "–" : fixed(100 * share, digits));
  const interval = (ends) => (ends ? `[${ends.map((end) => percent(end, 1)).join(", ")}]` : "");

  return { prepare, decide, judge, fixed, percent, interval };
})();
