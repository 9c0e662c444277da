"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const WORDS = JSON.parse(document.getElementById("words").textContent);
const tr = (sentence, values = {}) => (WORDS[sentence] || sentence).replace(/\{(\w+)\}/g, (_, name) => values[name]);
const TICKS = [-9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9].flatMap(k => [1, 2, 5].map(m => m * 10 ** k)); // Plotly alone writes 2 for 0.02
const FILTERS = ["basis", "source", "card", "model", "engine", "strategy", "batch", "task", "accounting"];
const BASES = {measured: ["#0072b2", "circle", "●"], published: ["#d55e00", "diamond", "◆"], predicted: ["#009e73", "triangle-up-open", "△"],
  estimated: ["#8a6d00", "square-open", "□"], simulated: ["#a0408f", "x", "✕"]};
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31"];
const X = {token_s: [tr("time per output token"), " [s]", 1], latency_s: [tr("time per request"), " [s]", 1], throughput_per_s: [tr("throughput"), " [1/s]", -1]};
const n = data.energy_j.length, SVG_MOST = 1500, NARROW = innerWidth < 740, PAGE = NARROW ? 40 : 200;
const $ = id => document.getElementById(id);
const text = (name, i) => data[name].levels[data[name].codes[i]];
const known = (name, i) => tr2(text(name, i)), tr2 = word => Object.hasOwn(WORDS, word) ? WORDS[word] : word;
const make = (tag, content, more = {}) => { const e = Object.assign(document.createElement(tag), more); if (content != null) e.textContent = content; return e; };
const plain = s => String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const fmt = v => { if (v == null || !isFinite(v)) return "-"; if (v === 0) return "0"; // toLocaleString takes a hundred times as long
  const size = Math.floor(Math.log10(Math.abs(v))), step = 10 ** Math.max(0, size - 2);
  const digits = (size > 2 ? Math.round(v / step) * step : v).toFixed(Math.min(20, Math.max(0, 2 - size)));
  return size > 2 ? digits.replace(/\B(?=(\d{3})+$)/g, ",") : digits; };
const between = (v, low, high) => fmt(v) + (low == null || high == null ? "" : " [" + tr("{low} to {high}", {low: fmt(low), high: fmt(high)}) + "]");

const hasGl = (() => { try { return !!document.createElement("canvas").getContext("webgl"); } catch { return false; } })();
let state, rows = [], front = new Set(), ratio = [], shown = PAGE, wanted;

const DEFAULTS = () => ({unit: count("unit")[0][0], x: data.token_s.filter(v => v != null).length > n / 2 ? "token_s" : "throughput_per_s", color: "basis", base: "", limit: "1000", score: "0", front: "", sort: "energy_j", down: ""});
function count(name, keep = () => true) {
  const c = new Array(data[name].levels.length).fill(0);
  for (let i = 0; i < n; i++) if (keep(i)) c[data[name].codes[i]]++;
  return data[name].levels.map((level, k) => [level, c[k]]).filter(p => p[1]).sort((a, b) => b[1] - a[1]);
}
function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), s = DEFAULTS();
  for (const key of Object.keys(s)) if (given.has(key)) s[key] = given.get(key);
  if (!data.unit.levels.includes(s.unit)) s.unit = DEFAULTS().unit;
  if (!X[s.x]) s.x = "token_s";
  if (!FILTERS.concat("basis").includes(s.color)) s.color = "basis";
  s.sets = {};
  for (const name of FILTERS) s.sets[name] = new Set(given.getAll(name).filter(v => data[name].levels.includes(v)));
  return s;
}
function toAddress() {
  const p = new URLSearchParams(), d = DEFAULTS();
  for (const key of Object.keys(d)) if (state[key] !== d[key]) p.set(key, state[key]);
  for (const name of FILTERS) for (const v of state.sets[name]) p.append(name, v);
  wanted = "#" + p;
  history.replaceState(null, "", wanted === "#" ? location.pathname + location.search : wanted);
}
const limitRange = () => { let low = Infinity, high = 0;
  for (let i = 0; i < n; i++) { const v = time(i); if (v > 0 && text("unit", i) === state.unit) { low = Math.min(low, v); high = Math.max(high, v); } }
  return high ? [low, high] : [1, 1]; };
const time = i => state.x === "throughput_per_s" ? (data.token_s[i] ?? data.latency_s[i]) : data[state.x][i];
function select() {
  const sets = FILTERS.filter(f => state.sets[f].size).map(f => [data[f].codes, new Set([...state.sets[f]].map(v => data[f].levels.indexOf(v)))]);
  const unit = data.unit.levels.indexOf(state.unit), [low, high] = limitRange();
  const most = +state.limit >= 1000 ? Infinity : low * (high / low) ** (state.limit / 1000), least = state.score / 100;
  $("limit-text").textContent = isFinite(most) ? fmt(most) + " s" : tr("no limit");
  $("score-text").textContent = least > 0 ? Math.round(100 * least) + " %" : tr("no limit");
  rows = [];
  for (let i = 0; i < n; i++) {
    if (data.unit.codes[i] !== unit || sets.some(([codes, set]) => !set.has(codes[i]))) continue;
    if (isFinite(most) && !(time(i) != null && time(i) <= most)) continue;
    if (least > 0 && !(data.score[i] != null && data.score[i] >= least)) continue;
    rows.push(i);
  }
  front = pareto(rows);
  if (state.front) rows = rows.filter(i => front.has(i));
  ratios();
}
const work = i => [data.model.codes[i], data.task.codes[i], data.accounting.codes[i]].join("|");
function pareto(of) {
  const [, , sign] = X[state.x], x = data[state.x], groups = new Map(), found = new Set();
  for (const i of of) if (x[i] != null) { const key = work(i); groups.has(key) ? groups.get(key).push(i) : groups.set(key, [i]); }
  for (const group of groups.values()) {
    if (group.length < 2) continue;
    group.sort((a, b) => sign * (x[a] - x[b]) || data.energy_j[a] - data.energy_j[b]);
    let best = Infinity;
    for (const i of group) if (data.energy_j[i] < best) { best = data.energy_j[i]; found.add(i); }
  }
  return found;
}
const KEY = ["source", "card", "model", "engine", "batch", "task", "unit", "lengths", "accounting"];
function ratios() {
  ratio = new Array(n).fill(null);
  if (!state.base) return;
  const code = data.strategy.levels.indexOf(state.base), key = i => KEY.map(k => data[k].codes[i]).join("|") + "|" + data.gpus[i], bases = new Map();
  for (let i = 0; i < n; i++) if (data.strategy.codes[i] === code) { const k = key(i); bases.set(k, bases.has(k) ? NaN : data.energy_j[i]); }
  for (const i of rows) { const b = bases.get(key(i)); if (b > 0) ratio[i] = data.energy_j[i] / b; }
}
const label = i => ["card", "model", "strategy", "engine"].map(c => known(c, i)).join(", ") + ", " + tr("batch {n}", {n: text("batch", i)});
const tip = i => plain(label(i)) + `<br>${plain(known("basis", i))}: ${between(data.energy_j[i], data.energy_j_low[i], data.energy_j_high[i])} ${plain(tr("J per {unit}", {unit: known("unit", i)}))}` +
  (data.n[i] ? `, n = ${data.n[i]}` : "") + (data.energy_j_low[i] == null ? " (" + tr("no interval") + ")" : "") + (data.score[i] != null ? `<br>${tr("score")} ${between(100 * data.score[i],
  data.score_low[i] && 100 * data.score_low[i], data.score_high[i] && 100 * data.score_high[i])} %` : "") + `<br>${plain(text("source", i))}, ${plain(text("where", i))}`;
const lazy = of => new Proxy(of, {get: (rows, k) => typeof k === "string" && /^\d+$/.test(k) ? tip(rows[k]) : rows[k]}); // a tip is written when Plotly asks for it
function draw() {
  if (!window.Plotly) return; // the table stands first; drawn.js draws when Plotly is there
  const x = data[state.x], plotted = rows.filter(i => x[i] > 0), big = plotted.length > SVG_MOST && hasGl;
  const levels = state.color === "basis" ? [] : count(state.color, (set => i => set.has(i))(new Set(plotted))).map(p => p[0]);
  const groups = new Map();
  for (const i of plotted) {
    const basis = text("basis", i), k = state.color === "basis" ? 0 : Math.min(levels.indexOf(text(state.color, i)), 7);
    const key = basis + "|" + k; groups.has(key) ? groups.get(key).push(i) : groups.set(key, [i]);
  }
  const traces = [...groups].map(([key, of]) => {
    const [basis, k] = key.split("|"), look = BASES[basis] || ["#555", "circle"];
    const name = state.color === "basis" ? tr2(basis) : (+k === 7 && levels.length > 8 ? tr("others") : tr2(levels[k])) + ", " + tr2(basis);
    return {type: big ? "scattergl" : "scatter", mode: "markers", name: plain(name), x: Float64Array.from(of, i => x[i]), y: Float64Array.from(of, i => data.energy_j[i]), customdata: of,
      text: lazy(of), hovertemplate: "%{text}<extra></extra>",
      marker: {size: big ? 6 : 9, symbol: look[1], color: state.color === "basis" ? look[0] : COLORS[k], opacity: big ? .65 : .9, line: {width: 1.2, color: state.color === "basis" ? look[0] : COLORS[k]}}};
  });
  const lines = new Map();
  for (const i of front) if (x[i] > 0) { const key = work(i); lines.has(key) ? lines.get(key).push(i) : lines.set(key, [i]); }
  [...lines.values()].filter(l => l.length > 1).slice(0, 12).forEach((line, k) => { line.sort((a, b) => x[a] - x[b]);
    traces.push({type: "scatter", mode: "lines", name: tr("Pareto front"), legendgroup: "front", showlegend: k === 0, hoverinfo: "skip", x: line.map(i => x[i]),
      y: line.map(i => data.energy_j[i]), line: {color: "#777", width: 1, dash: "dot", shape: "hv"}}); });
  traces.push({type: "scatter", mode: "markers", name: "", showlegend: false, hoverinfo: "skip", x: [], y: [], marker: {size: 16, color: "rgba(0,0,0,0)", line: {color: "#000", width: 2}},
    error_y: {type: "data", symmetric: false, array: [], arrayminus: [], color: "#000", thickness: 1.5}});
  const narrow = innerWidth < 740, axis = {type: "log", gridcolor: "#eee", zeroline: false, tickvals: TICKS, ticktext: TICKS.map(v => fmt(v).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, ""))};
  Plotly.react("plot", traces, {margin: {l: 60, r: 10, t: 10, b: 50}, hovermode: "closest", showlegend: true, uirevision: state.unit + state.x,
    legend: narrow ? {orientation: "h", y: -.25} : {font: {size: 11}}, xaxis: {...axis, title: {text: X[state.x][0] + X[state.x][1]}},
    yaxis: {...axis, title: {text: plain(tr("energy per {unit} [J]", {unit: tr2(state.unit)}))}}}, {responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"]});
}
function point(i) {
  if (!window.Plotly) return;
  const marked = $("plot").data.length - 1, x = data[state.x][i], y = data.energy_j[i], low = data.energy_j_low[i], high = data.energy_j_high[i];
  const has = low != null && high != null;
  Plotly.restyle("plot", {x: [x > 0 ? [x] : []], y: [x > 0 ? [y] : []], "error_y.array": [has ? [high - y] : []], "error_y.arrayminus": [has ? [y - low] : []]}, [marked]);
}
const COLUMNS = [["front", i => front.has(i) ? "★" : "", () => tr("front")], ["basis"], ["strategy"],
  ["energy_j", i => between(data.energy_j[i], data.energy_j_low[i], data.energy_j_high[i]), () => tr("J per {unit}", {unit: tr2(state.unit)}) + " [95 %]"],
  ["ratio", i => fmt(ratio[i]), () => state.base ? tr("ratio to {baseline}", {baseline: state.base}) : tr("ratio")], ["card"], ["model"], ["engine"], ["batch"], ["task"], ["lengths"],
  ["token_s", i => fmt(data.token_s[i]), () => tr("s per token")], ["latency_s", i => fmt(data.latency_s[i]), () => tr("s per request")],
  ["throughput_per_s", i => fmt(data.throughput_per_s[i]), () => tr("per second")],
  ["score", i => data.score[i] == null ? "-" : fmt(100 * data.score[i]), () => tr("score [%]")], ["memory_gb", i => fmt(data.memory_gb[i]), () => tr("memory [GB]")],
  ["n", i => data.n[i] ?? "-"], ["gpus", i => data.gpus[i] ?? "-", () => tr("cards")], ["accounting"], ["gate", null, () => tr("spread")], ["doubt", null, () => tr("in doubt")], ["source"]];
const value = (name, i) => name === "front" ? +front.has(i) : name === "ratio" ? ratio[i] : data[name].codes ? text(name, i) : data[name][i];
function order(name, down) {
  const sign = down ? -1 : 1;
  rows.sort((a, b) => { const u = value(name, a), v = value(name, b); if (u == null || v == null) return (u == null) - (v == null);
    return sign * (typeof u === "string" ? u.localeCompare(v, "en", {numeric: true}) : u - v); });
}
const safe = link => /^https?:\/\//.test(link) || (link && !/^[a-z][a-z0-9+.-]*:/i.test(link) && !link.startsWith("//")) ? link : "";
function line(i) {
  const tr = make("tr", null, {tabIndex: 0}); tr.dataset.row = i; tr.title = label(i);
  for (const [name, show] of COLUMNS) {
    const td = make("td", show ? show(i) : name === "basis" || name === "source" ? null : known(name, i));
    if (name === "basis") { const look = BASES[text(name, i)] || ["#555", "", "●"], b = make("span", `${look[2]} ${known(name, i)}`, {className: "badge"}); b.style.color = look[0]; td.append(b); }
    if (name === "source") { const href = safe(text("link", i)), words = `${text("source", i)}, ${text("where", i)}`; td.append(href ? make("a", words, {href, rel: "noreferrer"}) : words); }
    tr.append(td);
  }
  return tr;
}
function list() {
  order(state.sort, state.down);
  $("head").replaceChildren(...COLUMNS.map(([name, , title]) => { const th = make("th", null, {scope: "col"}), b = make("button", title ? title() : tr2(name), {type: "button"});
    b.dataset.sort = name; th.setAttribute("aria-sort", state.sort !== name ? "none" : state.down ? "descending" : "ascending");
    if (state.sort === name) b.append(state.down ? " ▼" : " ▲"); th.append(b); return th; }));
  $("body").replaceChildren(...rows.slice(0, shown).map(line));
  $("more").hidden = rows.length <= shown;
  $("shown").textContent = tr("{shown} of {all} rows are listed; the CSV has all of them.", {shown: Math.min(shown, rows.length).toLocaleString("en"), all: rows.length.toLocaleString("en")});
  const without = rows.filter(i => !(data[state.x][i] > 0)).length;
  $("status").textContent = tr("{n} rows, {k} on a front", {n: rows.length.toLocaleString("en"), k: front.size}) + (without ? tr("; {n} have no {axis} and are listed, not drawn", {n: without, axis: X[state.x][0]}) : "");
}
function controls() {
  const fill = (id, values, none) => $(id).replaceChildren(...(none ? [make("option", none, {value: ""})] : []), ...values.map(v => make("option", tr2(v), {value: v})));
  fill("unit", count("unit").map(p => p[0])); fill("base", count("strategy").map(p => p[0]), tr("none"));
  for (const id of ["unit", "x", "color", "base", "limit", "score"]) $(id).value = state[id];
  $("front").checked = !!state.front;
  const open = new Set([...document.querySelectorAll("#filters details[open]")].map(d => d.dataset.filter));
  $("filters").replaceChildren(...FILTERS.map(name => {
    const d = make("details"), box = make("div"), levels = count(name); d.dataset.filter = name;
    d.open = open.has(name) || state.sets[name].size > 0; d.append(make("summary", tr2(name) + (state.sets[name].size ? ` (${state.sets[name].size})` : "")));
    for (const [level, k] of levels) { const l = make("label"), c = make("input", null, {type: "checkbox", value: level, checked: state.sets[name].has(level)});
      c.dataset.filter = name; l.append(c, ` ${tr2(level || "not stated")} (${k.toLocaleString("en")})`); box.append(l); }
    d.append(box); return d;
  }));
}
function update() { select(); toAddress(); draw(); list(); }
function csv() {
  const cell = v => { let s = v == null ? "" : String(v); if (typeof v === "string" && /^[=+\-@\t\r]/.test(s)) s = "'" + s; return /[",\n\r]/.test(s) ? `"${s.replace(/"/g, '""')}"` : s; };
  const names = Object.keys(data).concat("ratio", "front");
  const lines = rows.map(i => names.map(k => cell(k === "ratio" ? ratio[i] : k === "front" ? +front.has(i) : data[k].codes ? text(k, i) : data[k][i])).join(","));
  const a = make("a", null, {href: URL.createObjectURL(new Blob([[names.join(","), ...lines].join("\r\n") + "\r\n"], {type: "text/csv"})), download: "energy.csv"});
  document.body.append(a); a.click(); a.remove(); setTimeout(() => URL.revokeObjectURL(a.href), 5000);
}
for (const id of ["unit", "x", "color", "base"]) $(id).addEventListener("change", e => { state[id] = e.target.value; shown = PAGE; update(); });
for (const id of ["limit", "score"]) $(id).addEventListener("input", e => { state[id] = e.target.value; clearTimeout(update.timer); update.timer = setTimeout(update, n > 3000 ? 120 : 0); });
$("front").addEventListener("change", e => { state.front = e.target.checked ? "1" : ""; update(); });
$("filters").addEventListener("change", e => { const set = state.sets[e.target.dataset.filter]; e.target.checked ? set.add(e.target.value) : set.delete(e.target.value);
  const s = e.target.closest("details").firstChild; s.textContent = tr2(e.target.dataset.filter) + (set.size ? ` (${set.size})` : ""); shown = PAGE; update(); });
$("head").addEventListener("click", e => { const b = e.target.closest("button"); if (!b) return; const name = b.dataset.sort;
  state.down = state.sort === name && !state.down ? "1" : ""; state.sort = name; toAddress(); list(); document.querySelector(`#head [data-sort="${name}"]`).focus(); });
$("body").addEventListener("focusin", e => { const tr = e.target.closest("tr"); if (tr) point(+tr.dataset.row); });
$("body").addEventListener("keydown", e => { const next = {ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling"}[e.key];
  const tr = next && e.target.closest("tr")[next]; if (tr) { e.preventDefault(); tr.focus(); } });
$("more").addEventListener("click", () => { shown += PAGE; list(); });
$("csv").addEventListener("click", csv);
$("reset").addEventListener("click", () => { history.replaceState(null, "", location.pathname); start(); });
$("controls").addEventListener("submit", e => e.preventDefault());
addEventListener("hashchange", () => { if (location.hash !== wanted) start(); });
function start() { state = fromAddress(); shown = PAGE; if (!COLUMNS.some(c => c[0] === state.sort)) state.sort = "energy_j"; controls(); update(); }
$("key").replaceChildren(...Object.entries(BASES).filter(([b]) => data.basis.levels.includes(b)).map(([b, look]) => { const s = make("span", `${look[2]} ${tr2(b)} `); s.style.color = look[0]; return s; }));
$("panel").open = !NARROW;
$("more").textContent = tr("Show {n} more", {n: PAGE});
start();
document.documentElement.dataset.listed = Math.round(performance.now());
