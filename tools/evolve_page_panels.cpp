// What the page of a report shows, panel by panel, as far as the run has data for it.
#include "tools/evolve_page.h"

namespace moe::tools {

const std::string_view kPagePanels = R"js(
const {front, journal, analysis, topologies} = run;
const main = document.getElementById("main");
const points = front ? front.points : [], baselines = front ? front.baselines : [];
const known = front ? [...points, ...baselines, front.full] : [];
const generations = journal ? journal.generations : [];
const objectives = front ? front.objectives : (generations[0] ?
    generations[0].best.map((_, i) => ({name: "objective " + (i + 1), unit: ""})) : []);
const kindOf = (p) => p === front.full ? "full" : baselines.includes(p) ? "baseline" : "point";

// What an axis can show: of a point, and of a scored candidate.
const kNumbers = [
  ["kl", "KL from the full model, selection text (nats)", (p) => p.selection.kl, "kl"],
  ["held_kl", "KL, held-out text (nats)", (p) => p.held_out.kl, null],
  ["worst", "KL of the worst text, held out (nats)", (p) => p.held_out.worst_domain_kl, "worst_domain_kl"],
  ["perplexity", "perplexity, held out", (p) => p.held_out.perplexity, null],
  ["accuracy", "accuracy", (p) => p.selection.accuracy, "accuracy"],
  ["bytes_per_token", "bytes read a token", (p) => p.costs.bytes_per_token, "bytes_per_token"],
  ["resident_bytes", "resident bytes", (p) => p.costs.resident_bytes, "resident_bytes"],
  ["active_flops", "FLOPs a token", (p) => p.costs.active_flops, "active_flops"],
  ["expert_flops", "experts' FLOPs a token", (p) => p.costs.expert_flops, "expert_flops"],
  ["latency_ms", "modelled latency (ms a token)", (p) => p.costs.latency_ms, "latency_ms"],
  ["tokens_per_s", "tokens a second, measured", (p) => p.measured ? p.measured.tokens_per_s : null, null],
  ["kept_share", "share of experts kept", (p) => p.costs.kept_share, "kept_share"],
  ["k_mean", "experts a token, mean", (p) => p.costs.k_mean, "k_mean"],
  ["load_cv", "unevenness of loads (CV)", (p) => p.costs.load_cv, "load_cv"],
  ["diversity", "evenness of loads (entropy share)", (p) => p.costs.diversity, "diversity"],
  ["layer_error", "error of layers, predicted", () => null, "layer_error"],
].map(([id, label, of, column]) => ({id, label, of, column: column && journal && journal.scored[column] || null}))
  .filter((n) => n.column || known.some((p) => isNumber(n.of(p))));
const numberOf = (id) => kNumbers.find((n) => n.id === id);

let chosen = points.length ? points[Math.floor(points.length / 2)] : null;
const onChoice = [];  // told of another chosen point
function choose(point) {
  if (!point || point === front.full) return;
  chosen = point;
  onChoice.forEach((f) => f());
}

function panel(title, note, ...content) {
  return element("section", {}, element("h2", {textContent: title}),
      note ? element("p", {className: "faint", textContent: note}) : null,
    ...content);
}
const pair = (...panels) => panels.some(Boolean) ? main.append(element("div", {className: "pair"}, ...panels)) : null;

// --- Head ---

function gapOf(p) {  // held out against selection
  const a = p.selection.kl, b = p.held_out.kl;
  return isNumber(a) && isNumber(b) && a > 0 ? b / a - 1 : null;
}
const kGapWarning = 0.15;

function addHead() {
  const settings = journal && journal.settings, model = front ? front.model.name : settings && settings.model &&
      settings.model.name;
  const name = String(model || run.folder).split("/").pop();
  document.title = name + " · moe-evolve";
  const last = generations[generations.length - 1], end = journal && journal.end, spent = front ? front.spent : {};
  const facts = [
    ["model", model], ["model hash", front ? front.model.hash : settings && settings.model && settings.model.hash],
    ["size", front ? short(front.model.bytes) + "B" : null], ["algorithm", front && front.algorithm],
    ["seed", front ? String(front.seed) : null],
    ["objectives", front ? objectives.map((o) => o.name + (o.maximise ? " ↑" : " ↓")).join(", ") : null],
    ["generations", journal ? String(journal.n_generations) : null],
    ["candidates scored", journal ? String(journal.n_scored) : null],
        ["evaluations, all tiers", spent.evaluations ? short(spent.evaluations) : null],
    ["token · layer forwards", last ? short(last.token_layers) : short(spent.token_layers)],
    ["time", clock(last ? last.seconds : spent.seconds)],
    ["device", front && front.device ? front.device.name : "none given"],
    ["ended by", end ? String(end.reason || "") : "not ended, or killed"],
  ];
  for (const t of front ? front.texts : [])
    facts.push(["text " + t.name, short(t.calibration) + " / " + short(t.select) + " / " + short(t.test) + " tokens"]);
  main.append(element("h1", {textContent: "Routing of " + name}),
    element("p", {className: "faint", textContent: "What moe-evolve did and found. Texts: calibration / selection / held out."}),
    element("section", {}, element("dl", {}, ...facts.filter((f) => f[1]).map(([k, v]) =>
      element("div", {}, element("dt", {textContent: k}), element("dd", {textContent: v})))),
      settings ? element("details", {}, element("summary", {textContent: "settings"}),
        element("pre", {textContent: JSON.stringify(settings, null, 1)})) : null));
  const over = points.filter((p) => gapOf(p) > kGapWarning).length;
  if (over) main.append(element("p", {className: "warn",
      textContent: "⚠ " + over + " of " + points.length + " points lose more than 15 % " +
    "between selection and held-out text: the search fitted its selection text. More of it, or fewer generations, helps."}));
  if (!front) main.append(element("p", {className: "warn",
      textContent: "There is no front.json: the run has not ended, or was killed. " +
    "What follows is from its journal."}));
}

// --- The front ---

function addFront() {
  if (kNumbers.length < 2) return;
  const wanted = objectives.map((o) => numberOf(o.name.replace(/-/g, "_"))).filter(Boolean);
  const first = (list) => list.map(numberOf).find(Boolean);
  let yAxis = wanted[0] || first(["kl", "held_kl"]) || kNumbers[0];
  let xAxis = wanted.find((n) => n !== yAxis) || first(["bytes_per_token", "active_flops", "kept_share"]) || kNumbers[1];
  if (xAxis === yAxis) xAxis = kNumbers.find((n) => n !== yAxis);
  let logX = false, logY = false, cloudShown = true, shown = [], x, y, cloud = [];
  const draw = (g, width, height) => {
    shown = known.map((p) => ({p, x: xAxis.of(p), y: yAxis.of(p), kind: kindOf(p)})).filter((m) => isNumber(m.x) &&
        isNumber(m.y));
    const cx = cloudShown && xAxis.column || [], cy = cloudShown && yAxis.column || [];
    const n = Math.min(cx.length, cy.length);
    x = new Scale(extent([...shown.map((m) => m.x), ...cx.slice(0, n)]), kLeft, width - kRight, logX);
    y = new Scale(extent([...shown.map((m) => m.y), ...cy.slice(0, n)]), height - kBottom, kTop, logY);
    axes(g, width, height, x, y, xAxis.label, yAxis.label);
    cloud = [];
    g.fillStyle = css("cloud");
    g.globalAlpha = n > 3000 ? 0.25 : 0.45;
    for (let i = 0; i < n; ++i) {
      const px = x.at(cx[i]), py = y.at(cy[i]);
      if (cx[i] === null || cy[i] === null || !isNumber(px) || !isNumber(py)) continue;
      g.fillRect(px - 1.5, py - 1.5, 3, 3);
      cloud.push([px, py, i]);
    }
    g.globalAlpha = 1;
    shown = shown.map((m) => ({...m, px: x.at(m.x), py: y.at(m.y)})).filter((m) => isNumber(m.px) && isNumber(m.py));
    const line = shown.filter((m) => m.kind === "point").sort((a, b) => a.px - b.px);
    g.globalAlpha = 0.35;
    polyline(g, line.map((m) => m.px), line.map((m) => m.py), css("blue"));
    g.globalAlpha = 1;
    for (const m of shown) {
      if (m.kind === "baseline") diamond(g, m.px, m.py, 6, css("orange"));
      else if (m.kind === "full") square(g, m.px, m.py, 6, css("green"));
      else dot(g, m.px, m.py, 4.5, css("blue"));
    }
    const mark = shown.find((m) => m.p === chosen);
    if (mark) dot(g, mark.px, mark.py, 8, null, css("text"));
  };
  const nearest = (px, py) => {
    let best = null;
    for (const m of shown) {
      const d = (m.px - px) ** 2 + (m.py - py) ** 2;
      if (d < 300 && (!best || d < best.d)) best = {d, m};
    }
    return best && best.m;
  };
  const hover = (px, py) => {
    const m = nearest(px, py);
    if (m) return {text: pointText(m.p), marks: (g) => dot(g, m.px, m.py, 9, null, css("text"))};
    let best = null;
    for (const c of cloud) {
      const d = (c[0] - px) ** 2 + (c[1] - py) ** 2;
      if (d < 60 && (!best || d < best.d)) best = {d, c};
    }
    if (!best) return null;
    const [cx, cy, i] = best.c;
    return {text: "scored in generation " + journal.scored.generation[i] + "\n" + xAxis.label + ": " +
        short(xAxis.column[i], 5) + "\n" +
      yAxis.label + ": " + short(yAxis.column[i], 5), marks: (g) => dot(g, cx, cy, 5, null, css("text"))};
  };
  const picture = new Picture("front", (w) => Math.min(560, Math.max(320, w * 0.5)), draw,
    {hover, click: (px, py) => { const m = nearest(px, py); if (m) choose(m.p); }});
  const names = kNumbers.map((n) => [n.id, n.label]);
  const xs = choice("across", names, (id) => { xAxis = numberOf(id); picture.repaint(); });
  const ys = choice("up", names, (id) => { yAxis = numberOf(id); picture.repaint(); });
  xs.select.value = xAxis.id; ys.select.value = yAxis.id;
  const hide = tick("all scored candidates", (on) => { cloudShown = on; picture.repaint(); });
  hide.firstChild.checked = true;
  onChoice.push(() => picture.repaint());
  const left = journal && journal.scored.generation.length < journal.n_scored ?
    " Of " + journal.n_scored + " candidates every n-th is drawn." : "";
  main.append(panel("Front", "Click a point for its layers and how to run it." + left,
      element("div", {className: "controls"}, xs.node, ys.node,
    tick("log across", (on) => { logX = on; picture.repaint(); }), tick("log up", (on) => { logY = on; picture.repaint(); }),
    journal ? hide : null), picture.node, legend([["● points found", css("blue")], ["◆ baselines", css("orange")],
    ["■ full model", css("green")], ["scored candidates", css("cloud")]])));
}

function pointText(p) {
  const lines = [p.name];
  for (const o of objectives) lines.push(o.name + ": " + short(p.selection[o.name], 5) + (o.unit ? " " + o.unit : ""));
  lines.push("held-out KL: " + short(p.held_out.kl) + (isNumber(p.held_out.kl_error) ? " ± " +
      short(p.held_out.kl_error, 2) : ""));
  lines.push("experts kept: " + percent(p.costs.kept_share) + ", k " + short(p.costs.k_mean, 3));
  return lines.join("\n");
}

// --- A point ---

const quoted = (text) => /^[\w./:@%+=-]+$/.test(text) ? text : "'" + text.replace(/'/g, "'\\''") + "'";

function kText(l) { return !l.n ? "dense" : l.k[1] === 0 ? "skipped" : l.k[0] < l.k[1] ? l.k[0] + "–" +
    l.k[1] : String(l.k[1]); }
const layersOf = (p) => p && topologies[p.name] ? topologies[p.name].layers : null;
const routed = (layers) => layers.map((l, i) => ({...l, index: i})).filter((l) => l.n > 0);

function layerText(l) {
  const kept = [...l.kept].filter((c) => c === "1").length, parts = [kept + " of " + l.n + " kept", "k " + kText(l)];
  if (l.threshold > 0) parts.push("threshold " + short(l.threshold, 3));
  if (l.temperature !== 1) parts.push("temperature " + short(l.temperature, 3));
  if (l.biased) parts.push("biased");
  if (l.redirected) parts.push(l.redirected + " redirected");
  return "layer " + l.index + ": " + parts.join(", ");
}

function addPoint() {
  if (!chosen) return;
  const title = element("h2"), costs = element("p", {className: "faint"}), commands = element("pre");
  const widest = () => (extent(routed(layersOf(chosen) || []).flatMap((l) => l.width || [1])) || [1, 1])[1];
  const picture = heatMap("layers of the chosen point", () => {
    const layers = routed(layersOf(chosen) || []), most = widest();
    return {rows: layers.length, columns: Math.max(1, ...layers.map((l) => l.n)), xLabel: "expert",
      color: (r, c) => c >= layers[r].n ? null : layers[r].kept[c] !== "1" ? kGone : ratioColor(layers[r], c),
      share: (r, c) => layers[r].kept[c] === "1" && layers[r].width ? layers[r].width[c] / most : 1,
      text: (r, c) => layerText(layers[r]) + "\nexpert " + c + ": " + (layers[r].kept[c] !== "1" ? "masked" : "kept") +
        (layers[r].width ? ", width " + layers[r].width[c] : "") + (ratio(layers[r].index, c) === null ? "" :
        ", " + short(ratio(layers[r].index, c), 3) + " × a fair share in the full model"),
      rowLabel: (r) => layers[r].index + " · k " + kText(layers[r]), columnLabel: String};
  });
  const update = () => {
    title.textContent = "Point " + chosen.name;
    costs.textContent = pointText(chosen).split("\n").slice(1).join(" · ");
    const path = chosen.topology ? quoted(run.folder.replace(/\/$/, "") + "/" + chosen.topology) : null,
        model = quoted(front.model.name);
    commands.textContent = path ? "moe-run " + model + " --topology " + path + " -p 'Once upon a time'\n" +
      "moe-quantize " + model + " --topology " + path + " -o " + quoted(chosen.name.replace(/\s+/g, "-") + ".gguf") +
      "\nmoe-inspect " + model + " topology " + path : "This point has no topology file.";
    picture.node.style.display = layersOf(chosen) ? "" : "none";
    picture.repaint();
  };
  onChoice.push(update);
  update();
  main.append(element("section", {}, title, costs, picture.node, legend([["· masked", css("frame")],
    ...(analysis ? [["a quarter of a fair share of tokens", balanceColor(0.25)], ["fair", balanceColor(1)],
        ["four times", balanceColor(4)]] :
    [["kept, as high as wide", css("blue")]])]), commands));
}

const sum = (list) => list.reduce((a, b) => a + b, 0);
const sums = analysis ? analysis.layers.map((l) => sum(l.use || [])) : [];
// Tokens of an expert in the full model against a fair share.
function ratio(layer, e) {
  const use = analysis && analysis.layers[layer] && analysis.layers[layer].use;
  return use && isNumber(use[e]) && sums[layer] > 0 ? use[e] * use.length / sums[layer] : null;
}
const ratioColor = (l, c) => ratio(l.index, c) === null ? css("blue") : balanceColor(ratio(l.index, c));

// --- Over generations ---

const work = () => generations.map((g) => g.token_layers);
const kWork = () => "token · layer forwards";
const tipOf = (value) => (i) => short(value(generations[i]), 5) + "\ngeneration " + generations[i].generation + ", " +
  short(generations[i].token_layers) + " forwards, " + clock(generations[i].seconds);

function addConvergence() {
  if (!generations.length) return;
  let at = 0, logs = false;
  const held = () => points.map((p) => p.held_out.kl).filter(isNumber);
  const lines = () => {
    const all = [{name: "best, selection text", color: css("blue"), xs: work(), ys: generations.map((g) => g.best[at]),
        tips: tipOf((g) => g.best[at])}];
    const o = objectives[at];
    if (o && o.name === "kl" && held().length) {
      const best = Math.min(...held()), xs = work();
      all.push({name: "best of the front on held-out text, read once at the end", color: css("orange"), dashed: true,
        xs: [xs[0], xs[xs.length - 1]], ys: [best, best]});
    }
    return all;
  };
  const unit = () => objectives[at] ? objectives[at].name +
      (objectives[at].unit ? " (" + objectives[at].unit + ")" : "") : "best";
  const chart = lineChart("convergence", {xLabel: kWork, yLabel: unit, lines, log: () => logs});
  const which = choice("objective", objectives.map((o, i) => [String(i), o.name]),
      (i) => { at = Number(i); chart.repaint(); });
  const volume = lineChart("hypervolume", {xLabel: kWork, yLabel: () => "hypervolume", lines: () =>
    [{name: "hypervolume", color: css("green"), xs: work(), ys: generations.map((g) => g.hypervolume),
        tips: tipOf((g) => g.hypervolume)}]});
  pair(panel("Convergence", "The best of the archive; the dashed line is what its best point keeps on held-out text.",
    element("div", {className: "controls"}, which.node, tick("log", (on) => { logs = on; chart.repaint(); })), chart.node,
    legend([["selection", css("blue")], ["held out", css("orange")]])),
  panel("Hypervolume", "Of the archive: 1 is a point with the best of generation 0 in every objective.", volume.node));
  const variety = lineChart("diversity", {xLabel: kWork, yLabel: () => "share of connections", lines: () =>
    [{name: "diversity", color: css("pink"), xs: work(), ys: generations.map((g) => g.diversity),
        tips: tipOf((g) => g.diversity)}]});
  const blocks = lineChart("unique layers", {xLabel: kWork, yLabel: () => "count", lines: () => [
    {name: "different layers", color: css("blue"), xs: work(), ys: generations.map((g) => g.unique_layers),
        tips: tipOf((g) => g.unique_layers)},
    {name: "candidates that were somebody else already", color: css("amber"), xs: work(),
        ys: generations.map((g) => g.duplicates),
      tips: tipOf((g) => g.duplicates)}]});
  pair(panel("Diversity", "Connections in which two of the population differ, mean.", variety.node),
    panel("Layers in the population", null, blocks.node,
        legend([["different layers", css("blue")], ["duplicates", css("amber")]])));
}

function stack(label, key, names) {
  let x, y, heights;
  const name = (i) => names && names[i] !== undefined ? names[i] : "operator " + (i + 1), n = generations[0][key].length;
  const draw = (g, width, height) => {
    const xs = generations.map((gen) => gen.generation);
    x = new Scale([xs[0], xs[xs.length - 1]], kLeft, width - kRight, false);
    y = new Scale([0, 1], height - kBottom, kTop, false);
    axes(g, width, height, x, y, "generation", "probability");
    heights = generations.map((gen) => gen[key].reduce((all, v) => [...all, all[all.length - 1] + (v || 0)], [0]));
    for (let i = 0; i < n; ++i) {
      g.fillStyle = manyColor(i);
      g.beginPath();
      generations.forEach((gen, j) => g.lineTo(x.at(xs[j]) - (xs.length === 1 ? 20 : 0), y.at(heights[j][i + 1])));
      for (let j = xs.length - 1; j >= 0; --j) g.lineTo(x.at(xs[j]) + (xs.length === 1 ? 20 : 0), y.at(heights[j][i]));
      g.closePath(); g.fill();
      g.strokeStyle = css("panel"); g.lineWidth = 1; g.stroke();
    }
  };
  const hover = (px, py) => {
    let j = 0;
    const away = (i) => Math.abs(x.at(generations[i].generation) - px);
    generations.forEach((gen, i) => { if (away(i) < away(j)) j = i; });
    const i = heights[j].findIndex((s, k) => k < n && py <= y.at(s) && py >= y.at(heights[j][k + 1]));
    if (i < 0) return null;
    return {text: name(i) + "\n" + percent(generations[j][key][i]) + " in generation " + generations[j].generation,
        marks: (g) => {
      g.strokeStyle = css("text"); g.lineWidth = 3;
      g.beginPath(); g.moveTo(x.at(generations[j].generation), y.at(heights[j][i]));
      g.lineTo(x.at(generations[j].generation), y.at(heights[j][i + 1])); g.stroke();
    }};
  };
  const items = Array.from({length: n}, (_, i) => [name(i), manyColor(i)]);
  return element("div", {}, new Picture(label, 320, draw, {hover}).node, legend(items));
}

function addOperators() {
  const has = (key) => generations.length && generations.every((g) => g[key].length === generations[0][key].length) &&
      generations[0][key].length;
  const names = (key) => analysis && has(key + "_share") === analysis[key + "s"].length ? analysis[key + "s"] : null;
  pair(has("mutation_share") ? panel("Mutations", "How often each is drawn: those whose children did better are drawn more.",
    stack("mutations", "mutation_share", names("mutation"))) : null,
  has("crossover_share") ? panel("Crossovers", "The same of operators with two parents.",
    stack("crossovers", "crossover_share", names("crossover"))) : null);
}

// --- Layers ---

function addLayers() {
  const fronts = points.map(layersOf).filter(Boolean), shape = fronts[0] ? routed(fronts[0]) :
    analysis ? routed(analysis.layers.map((l) => ({n: l.experts}))) : [];
  if (!shape.length) return;
  const columns = Math.max(...shape.map((l) => l.n));
  const count = shape.map((l) => Array.from({length: l.n},
      (_, e) => fronts.filter((f) => f[l.index] && f[l.index].kept && f[l.index].kept[e] === "1").length));
  const reapTop = shape.map((l) => analysis && analysis.layers[l.index] ?
      Math.max(...(analysis.layers[l.index].reap || [0])) : 0);
  const views = {
    kept: {on: fronts.length, name: "kept across the front", value: (r, c) => count[r][c] / fronts.length, color: scaleColor,
      say: (v) => "kept by " + percent(v) + " of the points",
          key: [["no point", scaleColor(0)], ["half", scaleColor(0.5)], ["all", scaleColor(1)]]},
    load: {on: analysis, name: "load in the full model", value: (r, c) => ratio(shape[r].index, c), color: balanceColor,
      say: (v) => short(v, 3) + " × a fair share of tokens",
          key: [["¼ of a fair share", balanceColor(0.25)], ["fair", balanceColor(1)], ["4 times", balanceColor(4)]]},
    reap: {on: analysis, name: "saliency (REAP)", value: (r, c) => reapTop[r] > 0 ?
        analysis.layers[shape[r].index].reap[c] / reapTop[r] : null, color: scaleColor,
      say: (v) => percent(v) + " of the layer's largest",
          key: [["none", scaleColor(0)], ["half of the layer's largest", scaleColor(0.5)], ["largest", scaleColor(1)]]},
  };
  const usable = Object.keys(views).filter((id) => views[id].on);
  let view = views[usable[0]];
  const keys = element("div");
  const map = heatMap("layers and experts", () => ({rows: shape.length, columns, xLabel: "expert", columnLabel: String,
    rowLabel: (r) => "layer " + shape[r].index,
    color: (r, c) => c >= shape[r].n ? null : isNumber(view.value(r, c)) ? view.color(view.value(r, c)) : kGone,
    text: (r, c) => "layer " + shape[r].index + ", expert " + c + "\n" + view.say(view.value(r, c))}));
  const select = choice("show", usable.map((id) => [id, views[id].name]), (id) => {
    view = views[id]; keys.replaceChildren(legend(view.key)); map.repaint();
  });
  keys.append(legend(view.key));
  main.append(panel("Layers and experts", null, element("div", {className: "controls"}, select.node), map.node, keys));
  pair(fronts.length ? kPanel(shape, fronts) : null, domainPanel(shape));
}

function kPanel(shape, fronts) {
  const most = extent([1, ...fronts.flatMap((f) => routed(f).map((l) => l.k[1]))])[1];
  const share = (r, k) => fronts.filter((f) => f[shape[r].index] && f[shape[r].index].k &&
      f[shape[r].index].k[1] === k).length / fronts.length;
  return panel("Experts a token (k)", "Share of the front's points that use so many at most, layer by layer.",
    heatMap("k of layers", () => ({rows: shape.length, columns: most + 1, xLabel: "k (0: skipped)", columnLabel: String,
      rowLabel: (r) => "layer " + shape[r].index, color: (r, c) => scaleColor(share(r, c)),
      text: (r, c) => "layer " + shape[r].index + ", k " + c + "\n" + percent(share(r, c)) + " of the points"})).node,
    legend([["no point", scaleColor(0)], ["half", scaleColor(0.5)], ["all", scaleColor(1)]]));
}

function domainPanel(shape) {
  if (!analysis || !analysis.domains.length) return null;
  let layer = shape[0].index;
  const lift = (d, e) => {  // how much more this text uses the expert than all texts do
    const all = analysis.layers[layer], of = all.domain_use[d], whole = sum(of);
    return all.use[e] > 0 && whole > 0 ? of[e] / whole * sums[layer] / all.use[e] : null;
  };
  const map = heatMap("experts and texts", () => ({rows: analysis.domains.length, columns: analysis.layers[layer].experts,
      xLabel: "expert",
    columnLabel: String, rowLabel: (r) => analysis.domains[r].slice(0, 12),
        color: (r, c) => isNumber(lift(r, c)) ? balanceColor(lift(r, c)) : kGone,
    text: (r, c) => analysis.domains[r] + ", expert " + c + "\n" + short(lift(r, c), 3) + " × its use in all texts"}));
  const select = choice("layer", shape.map((l) => [String(l.index), String(l.index)]),
      (l) => { layer = Number(l); map.repaint(); });
  return panel("Specialisation", "Which text uses which expert, against all texts together, in the full model.",
    element("div", {className: "controls"}, select.node), map.node,
    legend([["¼", balanceColor(0.25)], ["as all texts", balanceColor(1)], ["4 times", balanceColor(4)]]));
}

// --- The table ---

function addTable() {
  if (!front) return;
  const names = objectives.map((o) => [o.name + (o.unit ? " (" + o.unit + ")" : ""), (p) => short(p.selection[o.name])]);
  const domains = [...new Set(known.flatMap((p) => Object.keys(p.held_out.domain_kl)))].slice(0, 12);
  const columns = [["", (p) => p.name], ...names,
    ["held-out KL", (p) => short(p.held_out.kl) + (isNumber(p.held_out.kl_error) ? " ± " +
        short(p.held_out.kl_error, 2) : "")],
    ["gap", (p) => gapOf(p) === null ? "–" : (gapOf(p) > kGapWarning ? "⚠ " : "") + (gapOf(p) >= 0 ? "+" : "") +
        percent(gapOf(p))],
    ["perplexity", (p) => short(p.held_out.perplexity)], ["worst text", (p) => short(p.held_out.worst_domain_kl)],
    ["kept", (p) => percent(p.costs.kept_share)], ["k", (p) => short(p.costs.k_mean, 3)],
    ["modelled ms", (p) => short(p.costs.latency_ms, 3)],
    ...known.some((p) => p.measured) ? [
      ["measured ms", (p) => p.measured ? short(1e3 / p.measured.tokens_per_s, 3) : "–"],
      ["modelled / measured", (p) => p.measured ? short(p.costs.latency_ms * p.measured.tokens_per_s / 1e3, 3) : "–"],
      ["tokens/s", (p) => p.measured ? short(p.measured.tokens_per_s, 3) : "–"],
      ["resident MB", (p) => p.measured ? short(p.measured.resident_bytes / 1e6, 3) : "–"]] : [],
    ...domains.map((d) => ["KL " + d, (p) => short(p.held_out.domain_kl[d])])];
  const kMost = 500, rows = [front.full, ...baselines, ...points].slice(0, kMost).map((p) => {
    const row = element("tr", {}, ...columns.map(([, of], i) => element("td", {textContent: of(p),
      className: i === names.length + 2 && gapOf(p) > kGapWarning ? "warn" : ""})));
    if (kindOf(p) !== "full") {
      row.tabIndex = 0;
      row.onclick = () => choose(p);
      row.onkeydown = (e) => { if (e.key === "Enter") choose(p); };
    }
    return {p, row};
  });
  const mark = () => rows.forEach((r) => r.row.classList.toggle("chosen", r.p === chosen));
  onChoice.push(mark);
  mark();
  main.append(panel("Held-out numbers", "Gap: held-out KL against selection KL; above 15 % is marked. " +
    "Held-out text was read once, behind all decisions. Modelled times are of " +
    (front.device ? front.device.name : "the shipped profile edge") + "; measured ones of the machine that searched, masks on the " +
    "full model's file." +
    (known.length > kMost ? " The first " + kMost + " of " + known.length + " are shown." : ""),
    element("div", {className: "scroll"}, element("table", {},
        element("thead", {}, element("tr", {}, ...columns.map(([name]) =>
      element("th", {textContent: name})))), element("tbody", {}, ...rows.map((r) => r.row))))));
}

for (const add of [addHead, addFront, addPoint, addTable, addConvergence, addOperators, addLayers]) add();
document.documentElement.dataset.drawn = "yes";
)js";

}  // namespace moe::tools
