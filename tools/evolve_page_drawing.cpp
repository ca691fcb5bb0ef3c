// What every panel of the page draws with. A canvas is painted once for its size, data and colours; a pointer that moves over
// it paints a few marks on a second canvas on top, so that ten thousand points cost nothing while one looks at them.
#include "tools/evolve_page.h"

namespace moe::tools {

const std::string_view kPageDrawing = R"js(
const run = JSON.parse(document.getElementById("run").textContent);

// --- Elements: text only ever goes in as text ---

function element(tag, properties, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name in e) e[name] = value; else e.setAttribute(name, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

function choice(label, options, changed) {  // options: [value, text]
  const select = element("select", {onchange: () => changed(select.value)});
  for (const [value, text] of options) select.append(element("option", {value, textContent: text}));
  return {node: element("label", {}, label, select), select};
}

function tick(label, changed) {
  const box = element("input", {type: "checkbox", onchange: () => changed(box.checked)});
  return element("label", {}, box, label);
}

function legend(items) {  // [text, colour]
  return element("div", {className: "legend"}, ...items.map(([text, color]) => {
    const mark = element("i");
    mark.style.background = color;
    return element("span", {}, mark, text);
  }));
}

// --- Numbers ---

const isNumber = (x) => typeof x === "number" && Number.isFinite(x);

function short(x, digits = 4) {  // 1234567 → 1.235 M
  if (!isNumber(x)) return "–";
  const size = Math.abs(x);
  for (const [from, unit, name] of [[1e12, 1e12, " T"], [1e9, 1e9, " G"], [1e6, 1e6, " M"], [1e4, 1e3, " k"]]) {
    if (size >= from) return trim((x / unit).toPrecision(digits)) + name;
  }
  if (size !== 0 && size < 1e-4) return x.toExponential(Math.min(2, digits - 1));
  return size >= 10 ** digits ? String(Math.round(x)) : trim(x.toPrecision(digits));
}
const trim = (text) => text.includes("e") || !text.includes(".") ? text : text.replace(/\.?0+$/, "");
const percent = (x) => isNumber(x) ? trim((100 * x).toPrecision(3)) + " %" : "–";
const pad = (x) => String(Math.floor(x)).padStart(2, "0");
const clock = (s) => !isNumber(s) ? "–" : s < 60 ? short(s, 3) + " s" :
  Math.floor(s / 3600) + ":" + pad(s / 60 % 60) + ":" + pad(s % 60);

// --- Colours ---

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const kSeries = ["blue", "orange", "green", "pink", "amber", "sky"];
const series = (i) => css(kSeries[i % kSeries.length]);

// Of cividis (Nuñez et al. 2018), made for any colour vision: 0 to 1.
const kScale = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
// Below and above a fair share: −1 to 1.
const kBalance = [[8, 81, 156], [107, 174, 214], [240, 240, 240], [244, 165, 96], [166, 54, 3]];
function ramp(stops, t) {
  const at = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(at), stops.length - 2), f = at - i;
  return "rgb(" + stops[i].map((v, c) => Math.round(v + f * (stops[i + 1][c] - v))).join(",") + ")";
}
const scaleColor = (t) => ramp(kScale, t);
const balanceColor = (ratio) => ramp(kBalance, (Math.log2(Math.max(ratio, 1e-9)) / 2 + 1) / 2);
// Many kinds of a thing: hues a golden section apart, light and dark in turns.
const manyColor = (i) => "hsl(" + ((i * 137.5 + 205) % 360) + " 58% " + (42 + 14 * (i % 3)) + "%)";

// --- Canvases ---

const panels = [];  // all that must be painted again when colours change

// draw(context, width, height) paints; hover(x, y) → {text, marks(context)} or null; click(x, y).
class Picture {
  constructor(label, height, draw, {hover = null, click = null} = {}) {
    Object.assign(this, {height, draw, hover, click, wanted: false});
    this.base = element("canvas", {role: "img"});
    this.base.setAttribute("aria-label", label);
    this.over = element("canvas");
    this.over.style.cssText = "position:absolute;inset:0";
    this.node = element("div", {}, this.base, this.over);
    this.node.style.cssText = "position:relative";
    if (hover) {
      this.over.addEventListener("pointermove", (e) => this.pointed(e));
      this.over.addEventListener("pointerleave", () => this.leave());
    }
    if (click) this.over.addEventListener("click", (e) => click(...this.place(e)));
    new ResizeObserver(() => this.repaint()).observe(this.node);
    panels.push(this);
  }
  place(e) {
    const box = this.over.getBoundingClientRect();
    return [e.clientX - box.left, e.clientY - box.top];
  }
  prepare(canvas, height) {
    const scale = window.devicePixelRatio || 1, width = this.node.clientWidth;
    canvas.width = Math.max(1, Math.round(width * scale));
    canvas.height = Math.max(1, Math.round(height * scale));
    canvas.style.height = height + "px";
    const g = canvas.getContext("2d");
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.font = '13px system-ui, "DejaVu Sans", sans-serif';
    return g;
  }
  repaint() {
    if (this.wanted) return;
    this.wanted = true;
    requestAnimationFrame(() => {
      this.wanted = false;
      const width = this.node.clientWidth, height = typeof this.height === "function" ? this.height(width) : this.height;
      if (width < 40) return;
      this.size = [width, height];
      this.draw(this.prepare(this.base, height), width, height);
      this.top = this.prepare(this.over, height);
    });
  }
  pointed(e) {
    const [x, y] = this.place(e), found = this.size && this.hover(x, y);
    this.top.clearRect(0, 0, ...this.size);
    if (!found) return this.leave();
    if (found.marks) found.marks(this.top);
    const tip = document.getElementById("tip");
    tip.textContent = found.text;
    tip.style.display = "block";
    tip.style.left = Math.max(4, Math.min(e.clientX + 14, innerWidth - tip.offsetWidth - 8)) + "px";
    const below = e.clientY + 16, above = e.clientY - tip.offsetHeight - 10;
    tip.style.top = Math.max(4, below + tip.offsetHeight > innerHeight ? above : below) + "px";
  }
  leave() {
    if (this.top) this.top.clearRect(0, 0, ...this.size);
    document.getElementById("tip").style.display = "none";
  }
}

// --- Axes ---

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const v of values) if (isNumber(v)) { if (v < low) low = v; if (v > high) high = v; }
  return low <= high ? [low, high] : null;
}

function ticks(low, high, most) {  // steps of 1, 2 and 5
  const raw = (high - low) / most, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * (1 - 1e-9));
  const all = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) all.push(i * step);
  return all;
}
function logTicks(low, high) {
  const all = [];
  for (let p = Math.floor(low); p <= Math.ceil(high); ++p)
    for (const m of high - low > 4 ? [1] : high - low > 1.2 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7]) all.push(Math.log10(m) +
        p);
  return all.filter((t) => t >= low && t <= high);
}

// From values to pixels and back.
class Scale {
  constructor(range, from, to, log) {
    const [a, b] = range || [0, 1];
    this.log = log && a > 0;
    let low = this.log ? Math.log10(a) : a, high = this.log ? Math.log10(b) : b;
    const pad = high > low ? (high - low) * 0.04 : this.log ? 0.1 : Math.abs(high) * 0.1 || 1;
    Object.assign(this, {low: low - pad, high: high + pad, from, to});
  }
  at(v) {
    const x = this.log ? (v > 0 ? Math.log10(v) : NaN) : v;
    return this.from + (x - this.low) / (this.high - this.low) * (this.to - this.from);
  }
  marks(most) {
    const all = this.log ? logTicks(this.low, this.high) : ticks(this.low, this.high, most);
    return all.map((t) => [this.log ? 10 ** t : Math.abs(t) < 1e-12 ? 0 : t, this.from +
      (t - this.low) / (this.high - this.low) * (this.to - this.from)]);
  }
}

const kLeft = 68, kRight = 16, kTop = 12, kBottom = 44;

function axes(g, width, height, x, y, xLabel, yLabel) {
  g.lineWidth = 1;
  g.fillStyle = css("faint");
  g.strokeStyle = css("grid");
  g.textBaseline = "middle";
  g.textAlign = "right";
  for (const [v, at] of y.marks(6)) {
    g.beginPath(); g.moveTo(kLeft, Math.round(at) + 0.5); g.lineTo(width - kRight, Math.round(at) + 0.5); g.stroke();
    g.fillText(short(v, 3), kLeft - 7, at);
  }
  g.textAlign = "center";
  let last = -Infinity;
  for (const [v, at] of x.marks(Math.max(2, Math.floor(width / 110)))) {
    g.beginPath(); g.moveTo(Math.round(at) + 0.5, kTop); g.lineTo(Math.round(at) + 0.5, height - kBottom); g.stroke();
    if (at - last > 52) g.fillText(short(v, 3), last = at, height - kBottom + 13);
  }
  g.fillStyle = css("text");
  g.fillText(xLabel, (kLeft + width - kRight) / 2, height - 10);
  g.save();
  g.translate(11, (kTop + height - kBottom) / 2);
  g.rotate(-Math.PI / 2);
  g.fillText(yLabel, 0, 0);
  g.restore();
  g.strokeStyle = css("frame");
  g.strokeRect(kLeft + 0.5, kTop + 0.5, width - kLeft - kRight, height - kTop - kBottom);
}

function polyline(g, xs, ys, color, {dashed = false} = {}) {
  g.strokeStyle = color;
  g.lineWidth = 2;
  g.setLineDash(dashed ? [6, 5] : []);
  g.beginPath();
  let open = false, n = 0, last = null;
  for (let i = 0; i < xs.length; ++i) {
    const ok = isNumber(xs[i]) && isNumber(ys[i]);
    if (ok) { if (open) g.lineTo(xs[i], ys[i]); else g.moveTo(xs[i], ys[i]); ++n; last = [xs[i], ys[i]]; }
    open = ok;
  }
  g.stroke();
  g.setLineDash([]);
  if (n === 1) dot(g, ...last, 3, color);
}

function dot(g, x, y, radius, color, ring) {
  g.beginPath();
  g.arc(x, y, radius, 0, 2 * Math.PI);
  if (color) { g.fillStyle = color; g.fill(); }
  if (ring) { g.strokeStyle = ring; g.lineWidth = 2; g.stroke(); }
}

// Shapes say what colours say.
function diamond(g, x, y, r, color) {
  g.fillStyle = color;
  g.beginPath(); g.moveTo(x, y - r); g.lineTo(x + r, y); g.lineTo(x, y + r); g.lineTo(x - r, y); g.closePath(); g.fill();
}
function square(g, x, y, r, color) { g.fillStyle = color; g.fillRect(x - r, y - r, 2 * r, 2 * r); }

// A line a series over x. lines: () → [{name, color, xs, ys, dashed}]
function lineChart(label, {xLabel, yLabel, lines, height = 280, log = () => false}) {
  let x, y, now = [];
  const draw = (g, width, h) => {
    now = lines();
    x = new Scale(extent(now.flatMap((l) => l.xs)), kLeft, width - kRight, false);
    y = new Scale(extent(now.flatMap((l) => l.ys)), h - kBottom, kTop, log());
    axes(g, width, h, x, y, xLabel(), yLabel());
    for (const l of now) polyline(g, l.xs.map((v) => x.at(v)), l.ys.map((v) => isNumber(v) ? y.at(v) : NaN), l.color, l);
  };
  const hover = (px, py) => {
    let best = null;
    for (const l of now) {
      for (let i = 0; i < l.xs.length; ++i) {
        if (!isNumber(l.ys[i])) continue;
        const d = Math.abs(x.at(l.xs[i]) - px) + 0.3 * Math.abs(y.at(l.ys[i]) - py);
        if (!best || d < best.d) best = {d, l, i};
      }
    }
    if (!best || best.d > 60) return null;
    const {l, i} = best;
    return {text: l.name + "\n" + (l.tips ? l.tips(i) : short(l.ys[i], 5)),
            marks: (g) => dot(g, x.at(l.xs[i]), y.at(l.ys[i]), 5, null, l.color)};
  };
  return new Picture(label, height, draw, {hover});
}

const kGone = "gone";  // the colour of a cell that is a dot: masked, or nothing is known
// A matrix of cells. spec(): {rows, columns, color(r, c) or null, text(r, c), rowLabel(r), columnLabel(c), xLabel}
function heatMap(label, spec, {click = null} = {}) {
  let s, cell, pitch;
  const left = 92, top = 8, bottom = 36;
  const cellsOf = (width, h) => { cell = (width - left - 8) / s.columns; pitch = (h - top - bottom) / s.rows; };
  const heightOf = () => { s = spec(); return top + bottom + s.rows * Math.min(26, Math.max(4, 520 / Math.max(1, s.rows))); };
  const draw = (g, width, h) => {
    s = spec();
    cellsOf(width, h);
    const gap = cell > 5 && pitch > 5 ? 1 : 0;
    g.textBaseline = "middle";
    g.textAlign = "right";
    for (let r = 0; r < s.rows; ++r) {
      for (let c = 0; c < s.columns; ++c) {
        const color = s.color(r, c);
        if (!color) continue;
        if (color === kGone) {
          dot(g, left + (c + 0.5) * cell, top + (r + 0.5) * pitch, Math.min(1.6, cell / 5, pitch / 5), css("frame"));
          continue;
        }
        const share = s.share ? s.share(r, c) : 1, high = (pitch - gap) * share;
        if (share < 1) {
          g.fillStyle = css("masked");
          g.fillRect(left + c * cell, top + r * pitch, cell - gap, pitch - gap);
        }
        g.fillStyle = color;
        g.fillRect(left + c * cell, top + r * pitch + pitch - gap - high, Math.max(cell - gap, 0.6), Math.max(high, 0.6));
      }
      g.fillStyle = css("faint");
      if (pitch >= 14 || r % Math.ceil(14 / pitch) === 0) {
        g.fillText(s.rowLabel(r), left - 8, top + (r + 0.5) * pitch, left - 10);
      }
    }
    g.textAlign = "center";
    for (let c = 0; c < s.columns; c += Math.max(1, Math.ceil(30 / cell)))
      g.fillText(s.columnLabel(c), left + (c + 0.5) * cell, h - bottom + 11);
    g.fillStyle = css("text");
    g.fillText(s.xLabel, left + (width - left) / 2, h - 9);
  };
  const hover = (px, py) => {
    const c = Math.floor((px - left) / cell), r = Math.floor((py - top) / pitch);
    if (!s || c < 0 || r < 0 || c >= s.columns || r >= s.rows || !s.color(r, c)) return null;
    return {text: s.text(r, c), marks: (g) => {
      g.strokeStyle = css("text"); g.lineWidth = 2;
      g.strokeRect(left + c * cell, top + r * pitch, Math.max(cell, 2), pitch);
    }};
  };
  return new Picture(label, heightOf, draw, {hover, click});
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => panels.forEach((p) => p.repaint()));
)js";

}  // namespace moe::tools
