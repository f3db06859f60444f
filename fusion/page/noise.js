// What chance adds to a score: its interval, and which mixes cannot be told from the best. The arithmetic of
// fusion/judging/resampling.py, fusion/judging/significance.py and fusion/sweeps/curve.py, on draws of its own.
"use strict";

const Noise = (() => {
  const RESAMPLES = 2000, DRAWS = 500; // of an interval; of the set
  const ROWS = 3e6, FEWEST = 200; // rows drawn for an interval at most: beyond, fewer resamples, so that a slider moves

  // 32-bit numbers: SplitMix (Steele, Lea and Flood 2014), a step mixed as MurmurHash3 ends.
  function random(seed) {
    let state = seed | 0;
    return () => {
      state = (state + 0x9e3779b9) | 0;
      let z = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return (z ^ (z >>> 16)) >>> 0;
    };
  }

  const clip = (value, low, high) => Math.min(high, Math.max(low, value));
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  // Signs of DRAWS draws over the groups, a bit each; where rows are independent each is a group of its own.
  function prepare(prepared, chance) {
    const { n, k, y, agreed, open, groups } = prepared, { student, z, level, seed } = chance;
    const g = groups ? groups.reduce((most, group) => Math.max(most, group + 1), 0) : n;
    const words = Math.ceil(g / 32), next = random(seed + 1);
    const bits = Uint32Array.from({ length: DRAWS * words }, next);
    const sign = (draw, group) => ((bits[draw * words + (group >>> 5)] >>> (group & 31)) & 1 ? 1 : -1);
    const settled = new Float64Array(groups ? 0 : DRAWS * k * k); // the signs of rows that no mix changes, by cell
    if (!groups) {
      const changes = new Uint8Array(n);
      for (const row of open) changes[row] = 1;
      for (let draw = 0; draw < DRAWS; draw++) {
        for (let row = 0; row < n; row++) {
          if (!changes[row]) settled[(draw * k + y[row]) * k + agreed[row]] += sign(draw, row);
        }
      }
    }
    const resamples = clip(Math.floor(ROWS / n), FEWEST, RESAMPLES);
    const t = (freedom) => {
      const at = 512 / freedom, low = Math.min(511, Math.floor(at));
      return student[low] + (at - low) * (student[low + 1] - student[low]);
    };
    return { prepared, groups, g, sign, settled, resamples, t, z, level, seed };
  }

  // The ends of the intervals of all scores that `judge` found.
  function intervals(noise, found, decided) {
    return noise.groups ? leftOut(noise, found, decided) : resampled(noise, found);
  }

  // Rows drawn within each class: a row is its answer, so that the confusion matrix is all there is to draw from.
  function resampled(noise, found) {
    const { k } = noise.prepared, { resamples, level, z } = noise, next = random(noise.seed);
    const rows = found.confusion.map((counts) => Uint16Array.from(counts.flatMap((count, c) => new Array(count).fill(c))));
    const f1 = Array.from({ length: k }, () => new Float64Array(resamples)), macroF1 = new Float64Array(resamples);
    const right = new Int32Array(k), called = new Int32Array(k);
    for (let r = 0; r < resamples; r++) {
      right.fill(0), called.fill(0);
      for (let c = 0; c < k; c++) {
        const own = rows[c], support = own.length;
        for (let i = 0; i < support; i++) {
          const answer = own[Math.floor((next() * support) / 2 ** 32)];
          called[answer]++;
          if (answer === c) right[c]++;
        }
      }
      for (let c = 0; c < k; c++) {
        f1[c][r] = (2 * right[c]) / Math.max(1, rows[c].length + called[c]);
        macroF1[r] += f1[c][r] / k;
      }
    }
    const n = noise.prepared.n, correct = found.confusion.reduce((sum, counts, c) => sum + counts[c], 0);
    return {
      accuracy: wilson(correct, n, z),
      macroF1: percentiles(macroF1, level),
      recall: found.confusion.map((counts, c) => (found.supports[c] ? wilson(counts[c], found.supports[c], z) : null)),
      f1: f1.map((draws) => (draws.every((share) => share === draws[0]) ? null : percentiles(draws, level))), // all rows missed: nothing to go by
    };
  }

  function wilson(correct, n, z) {
    const share = correct / n, spread = (z * z) / n, middle = (share + spread / 2) / (1 + spread);
    const half = (z * Math.sqrt((share * (1 - share)) / n + spread / (4 * n))) / (1 + spread);
    return [Math.max(0, middle - half), Math.min(1, middle + half)];
  }

  function percentiles(draws, level) {
    const sorted = draws.slice().sort();
    return [0.5 - level / 2, 0.5 + level / 2].map((share) => {
      const at = (sorted.length - 1) * share, low = Math.floor(at);
      return sorted[low] + (at - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
    });
  }

  // Counts by group and class: rows called right, rows of the class, and those plus rows called so; (g, k) each.
  function byGroup({ prepared, groups, g }, decided) {
    const { n, k, y } = prepared, [right, support, whole] = [0, 1, 2].map(() => new Int32Array(g * k));
    for (let row = 0; row < n; row++) {
      const start = groups[row] * k;
      support[start + y[row]]++, whole[start + y[row]]++, whole[start + decided[row]]++;
      if (y[row] === decided[row]) right[start + y[row]]++;
    }
    const sum = (counts) => Array.from({ length: k }, (_, c) => {
      let total = 0;
      for (let at = c; at < counts.length; at += k) total += counts[at];
      return total;
    });
    return { right, support, whole, rights: sum(right), supports: sum(support), wholes: sum(whole) };
  }

  function leftOut(noise, found, decided) {
    const { k, n } = noise.prepared, { g } = noise, counts = byGroup(noise, decided);
    const each = (score) => Array.from({ length: g }, (_, group) => score(group * k));
    const share = (part, parts, of, ofs, c, factor) => (at) => (factor * (parts[c] - part[at + c])) / Math.max(1, ofs[c] - of[at + c]);
    const { right, rights, support, supports, whole, wholes } = counts;
    const f1 = rights.map((_, c) => each(share(right, rights, whole, wholes, c, 2)));
    const recall = rights.map((_, c) => each(share(right, rights, support, supports, c, 1)));
    const hits = rights.reduce((sum, count) => sum + count, 0), classes = rights.map((_, c) => c);
    const accuracy = each((at) => {
      const [mine, size] = [right, support].map((part) => classes.reduce((sum, c) => sum + part[at + c], 0));
      return (hits - mine) / Math.max(1, n - size);
    });
    const macroF1 = Array.from({ length: g }, (_, group) => mean(f1.map((one) => one[group])));
    return {
      accuracy: scored(noise, found.accuracy, accuracy),
      macroF1: scored(noise, found.macroF1, macroF1),
      recall: recall.map((left, c) => (supports[c] ? scored(noise, found.recall[c], left) : null)),
      f1: f1.map((left, c) => (supports[c] ? scored(noise, found.f1[c], left) : null)),
    };
  }

  // `Jackknife.scores` of resampling.py: Korn and Graubard's interval.
  function scored({ g, t }, score, left) {
    if (g < 2) return [0, 1];
    const middleOf = mean(left);
    let squares = 0, fourths = 0;
    for (const value of left) {
      const square = (value - middleOf) ** 2;
      squares += square, fourths += square * square;
    }
    const variance = ((g - 1) / g) * squares, moved = variance > 1e-18;
    const quantile = t(moved ? clip(squares ** 2 / fourths, 1, g - 1) : g - 1);
    const middle = clip(g * score - (g - 1) * middleOf, 0, 1), free = middle * (1 - middle);
    const rows = moved && free > 0 ? free / variance : g, spread = quantile ** 2 / rows;
    const centre = (middle + spread / 2) / (1 + spread);
    const half = (quantile * Math.sqrt(free / rows + (quantile / rows) ** 2 / 4)) / (1 + spread);
    return [clip(Math.min(centre - half, score), 0, 1), clip(Math.max(centre + half, score), 0, 1)];
  }

  // What chance adds to the macro F1 of a mix: DRAWS numbers around zero, from signs that all mixes share.
  function drawn(noise, found, decided) {
    return noise.groups ? ofGroups(noise, decided) : ofRows(noise, found, decided);
  }

  function ofGroups(noise, decided) {
    const { k } = noise.prepared, { g, sign } = noise, { right, rights, whole, wholes } = byGroup(noise, decided);
    const score = mean(rights.map((count, c) => (2 * count) / Math.max(1, wholes[c])));
    const left = Array.from({ length: g }, (_, group) => mean(rights.map((count, c) => (2 * (count - right[group * k + c])) / Math.max(1, wholes[c] - whole[group * k + c]))));
    const middle = mean(left), shrink = Math.sqrt(1 - 1 / g);
    const parts = left.map((value) => score / g - shrink * (value - middle));
    return Float64Array.from({ length: DRAWS }, (_, draw) => {
      let sum = 0;
      for (let group = 0; group < g; group++) sum += sign(draw, group) * parts[group];
      return sum;
    });
  }

  // Each row a group of its own: what a mix is without a row depends on nothing but the row's cell of the matrix.
  function ofRows(noise, found, decided) {
    const { n, k, y, open } = noise.prepared, { sign, settled } = noise, { confusion, supports } = found;
    const right = confusion.map((counts, c) => counts[c]);
    const whole = confusion.map((_, c) => supports[c] + confusion.reduce((sum, counts) => sum + counts[c], 0));
    const f1 = right.map((count, c) => (2 * count) / Math.max(1, whole[c]));
    const missed = right.map((count, c) => (2 * count) / Math.max(1, whole[c] - 1) - f1[c]);
    const score = mean(f1), left = new Float64Array(k * k);
    for (let t = 0; t < k; t++) {
      for (let c = 0; c < k; c++) {
        const change = t === c ? (2 * (right[c] - 1)) / Math.max(1, whole[c] - 2) - f1[c] : missed[t] + missed[c];
        left[t * k + c] = score + change / k;
      }
    }
    let middle = 0;
    confusion.forEach((counts, t) => counts.forEach((count, c) => (middle += (count * left[t * k + c]) / n)));
    const shrink = Math.sqrt(1 - 1 / n), parts = left.map((value) => score / n - shrink * (value - middle));
    const cells = open.map((row) => y[row] * k + decided[row]);
    return Float64Array.from({ length: DRAWS }, (_, draw) => {
      let sum = 0;
      for (let cell = 0; cell < k * k; cell++) sum += settled[draw * k * k + cell] * parts[cell];
      for (let i = 0; i < open.length; i++) sum += sign(draw, open[i]) * parts[cells[i]];
      return sum;
    });
  }

  // `not_worse` of significance.py: the model confidence set (Hansen, Lunde and Nason 2011), a mask over the mixes.
  function alike(values, draws, level) {
    const order = values.map((_, i) => i).sort((i, j) => values[j] - values[i] || i - j);
    const most = new Float64Array(DRAWS).fill(-Infinity), least = new Float64Array(DRAWS).fill(Infinity);
    const p = order.map((mix) => {
      let far = 0;
      for (let draw = 0; draw < DRAWS; draw++) {
        most[draw] = Math.max(most[draw], draws[mix][draw]);
        least[draw] = Math.min(least[draw], draws[mix][draw]);
        if (most[draw] - least[draw] >= values[order[0]] - values[mix] - 1e-9) far++;
      }
      return (far + 1) / (DRAWS + 1);
    });
    const kept = new Array(values.length);
    for (let place = order.length - 1, highest = 0; place >= 0; place--) {
      highest = Math.max(highest, p[place]);
      kept[order[place]] = highest > 1 - level;
    }
    return kept;
  }

  return { prepare, intervals, drawn, alike };
})();
