"use strict";
// Draws the report of a sweep. DATA comes from sim/sweep/report.py; Plotly is there by now.

const STAGE_COLOURS = { estimate: "#9aa7b4", simulate: "#d1495b", synth: "#00798c", build: "#30638e" };
const STAGE_SYMBOLS = { estimate: "circle", simulate: "diamond", synth: "square", build: "star-triangle-up" };
const CONFIG = { displaylogo: false, responsive: true };
const LAYOUT = { margin: { l: 70, r: 20, t: 30, b: 55 }, legend: { orientation: "h", y: 1.12 }, hovermode: "closest" };

const byId = (id) => document.getElementById(id);
const title = (name) => DATA.units[name] || name.replaceAll("_", " ");
const figure = (point, name) => point.figures[name];
const has = (point, name) => typeof figure(point, name) === "number";
const passed = (point, stage) => point.status[stage] === "ok";
const label = (point) => (point.position < 0 ? "baseline" : "point " + point.position);
const plotted = (id, traces, layout) => Plotly.react(id, traces, { ...LAYOUT, ...layout }, CONFIG);

function element(tag, text, parent, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  Object.assign(made, attributes);
  if (parent) parent.append(made);
  return made;
}

function number(value) {
  if (typeof value !== "number") return value === undefined || value === null ? "" : String(value);
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(4));
}

function hover(point) {
  const values = Object.entries(point.values).map(([name, value]) => `${name} = ${value}`);
  const figures = DATA.shown.filter((name) => has(point, name)).map((name) => `${title(name)}: ${number(figure(point, name))}`);
  return `<b>${label(point)}</b><br>${[...values, ...figures].join("<br>")}`;
}

// --- filters ---------------------------------------------------------------------------------

const excluded = new Set(); // "axis value" of every box that is not ticked
const visible = () => DATA.points.filter((point) => point.position < 0
  || Object.entries(point.values).every(([name, value]) => !excluded.has(name + "\u0000" + value)));
const feasible = () => visible().filter((point) => passed(point, "estimate"));

function makeFilters() {
  for (const [name, values] of Object.entries(DATA.axes)) {
    const group = element("fieldset", "", byId("filters"));
    element("legend", name, group);
    for (const value of values) {
      const box = element("label", "", group);
      const input = element("input", "", box, { type: "checkbox", checked: true });
      box.append(" " + value);
      input.addEventListener("change", () => {
        excluded[input.checked ? "delete" : "add"](name + "\u0000" + value);
        draw();
      });
    }
  }
}

function makeChoice(id, names, chosen) {
  const select = byId(id);
  for (const name of names) element("option", title(name), select, { value: name, selected: name === chosen });
  select.addEventListener("change", draw);
}

// --- plots -----------------------------------------------------------------------------------

function front(points, x, y) {
  const better = (name) => (DATA.best[name] === "min" ? -1 : 1);
  const sorted = [...points].sort((a, b) => better(x) * (figure(b, x) - figure(a, x)) || better(y) * (figure(b, y) - figure(a, y)));
  let top = -Infinity;
  return sorted.filter((point) => {
    const value = better(y) * figure(point, y);
    if (value <= top) return false;
    top = value;
    return true;
  });
}

function scatter(points, x, y, more) {
  return { type: "scatter", mode: "markers", x: points.map((p) => figure(p, x)), y: points.map((p) => figure(p, y)),
    text: points.map(hover), hovertemplate: "%{text}<extra></extra>", ...more };
}

function drawFront() {
  const x = byId("front-x").value, y = byId("front-y").value;
  const points = feasible().filter((point) => has(point, x) && has(point, y));
  const line = front(points, x, y);
  const traces = [{ ...scatter(line, x, y, { name: "Pareto front", line: { color: "#444", width: 1 } }), mode: "lines", hoverinfo: "skip" }];
  for (const stage of Object.keys(DATA.labels)) {
    const own = points.filter((point) => passed(point, stage));
    if (own.length) traces.push(scatter(own, x, y, { name: `${stage} (${DATA.labels[stage]})`,
      marker: { color: STAGE_COLOURS[stage], symbol: STAGE_SYMBOLS[stage], size: stage === "estimate" ? 7 : 10 } }));
  }
  for (const [name, symbol, wanted] of [["baseline", "x", (p) => p.baseline], ["recommended", "star", (p) => p.recommended]]) {
    const own = points.filter(wanted);
    if (own.length) traces.push(scatter(own, x, y, { name, marker: { symbol, size: 16, color: "#edae49", line: { width: 1, color: "#222" } } }));
  }
  plotted("front", traces, { xaxis: { title: { text: title(x) } }, yaxis: { title: { text: title(y) } } });
}

function drawRoofline() {
  const points = feasible().filter((point) => has(point, "decode_mac_per_byte"));
  if (!points.length) return;
  const roofs = new Map();
  for (const point of points.filter((p) => p.baseline || p.recommended || passed(p, "simulate"))) {
    roofs.set(figure(point, "memory_gb_per_second").toFixed(1) + "/" + figure(point, "engine_gmac_per_second"), point);
  }
  const traces = [];
  for (const point of [...roofs.values()].slice(0, 6)) {
    const memory = figure(point, "memory_gb_per_second"), engine = figure(point, "engine_gmac_per_second");
    const xs = [0.5, engine / memory, 64].sort((a, b) => a - b);
    traces.push({ type: "scatter", mode: "lines", x: xs, y: xs.map((x) => Math.min(x * memory, engine)), line: { width: 1 },
      name: `${number(memory)} GB/s, ${number(engine)} GMAC/s`, hoverinfo: "name" });
  }
  for (const [phase, symbol] of [["decode", "circle"], ["prefill", "square"]]) {
    for (const [stage, opacity] of [["estimate", 0.35], ["simulate", 1]]) {
      const own = points.filter((point) => passed(point, stage));
      if (!own.length) continue;
      const source = (point) => (stage === "simulate" ? point.simulated : point.estimated)[phase + "_gmac_per_second"];
      traces.push({ type: "scatter", mode: "markers", name: `${phase}, ${DATA.labels[stage]}`, x: own.map((p) => figure(p, phase + "_mac_per_byte")),
        y: own.map(source), text: own.map(hover), hovertemplate: "%{text}<extra></extra>",
        marker: { symbol, size: stage === "simulate" ? 10 : 6, opacity, color: STAGE_COLOURS[stage] } });
    }
  }
  plotted("roofline", traces, { xaxis: { type: "log", title: { text: "multiplications per byte read" } },
    yaxis: { type: "log", title: { text: "GMAC/s of the fabric" } } });
}

function drawHeat() {
  const x = byId("heat-x").value, y = byId("heat-y").value, metric = byId("heat-metric").value;
  if (!x || !y) return;
  const pick = DATA.best[metric] === "min" ? Math.min : Math.max;
  const points = feasible().filter((point) => point.position >= 0 && has(point, metric));
  const cell = (a, b) => {
    const own = points.filter((point) => point.values[x] === a && point.values[y] === b).map((point) => figure(point, metric));
    return own.length ? pick(...own) : null;
  };
  const z = DATA.axes[y].map((b) => DATA.axes[x].map((a) => cell(a, b)));
  plotted("heat", [{ type: "heatmap", x: DATA.axes[x].map(String), y: DATA.axes[y].map(String), z, colorscale: "Viridis",
    reversescale: DATA.best[metric] === "min", texttemplate: "%{z:.4~g}", hoverongaps: false,
    colorbar: { title: { text: title(metric) } } }],
  { xaxis: { type: "category", title: { text: x } }, yaxis: { type: "category", title: { text: y } } });
}

function chosenFew() {
  const points = feasible(), wanted = (p) => p.recommended || p.baseline || passed(p, "synth") || passed(p, "build");
  const found = points.filter(wanted);
  return (found.length > 2 ? found : points.filter((p) => wanted(p) || passed(p, "simulate"))).slice(0, 24);
}

function drawResources() {
  const points = chosenFew(), names = Object.keys(DATA.limits);
  const marked = (point) => label(point) + (point.baseline && point.position >= 0 ? " (baseline)" : "") + (point.recommended ? " *" : "");
  plotted("resources", names.map((name) => ({ type: "bar", name: name.toUpperCase(), x: points.map(marked),
    y: points.map((point) => 100 * figure(point, name) / DATA.limits[name]),
    text: points.map((point) => number(figure(point, name))), hovertemplate: "%{x}: %{text} of " + DATA.limits[name] + " (%{y:.1f} %)<extra>" + name + "</extra>" })),
  { barmode: "group", yaxis: { title: { text: "% of the " + DATA.device }, range: [0, 100] }, xaxis: { type: "category" } });
}

function drawStalls() {
  const points = feasible().filter((point) => passed(point, "simulate"));
  byId("simulated").hidden = !points.length;
  if (!points.length) return;
  const phase = byId("stall-phase").value;
  const causes = Object.keys(points[0].simulated).filter((name) => name.startsWith(phase + "_stall_"));
  plotted("stalls", causes.map((name) => ({ type: "bar", name: name.slice(phase.length + 7), x: points.map(label),
    y: points.map((point) => 100 * point.simulated[name]) })),
  { barmode: "stack", yaxis: { title: { text: "% of the cycles that ran" } }, xaxis: { type: "category" } });
  const traces = [["tokens_per_second", "decode"], ["prefill_tokens_per_second", "prefill"]].map(([name, phase]) => ({
    type: "scatter", mode: "markers", name: phase, x: points.map((p) => p.estimated[name]), y: points.map((p) => 100 * p.simulated[phase + "_error"]),
    text: points.map(hover), hovertemplate: "%{y:+.2f} %<br>%{text}<extra></extra>", marker: { size: 10 }, yaxis: "y" }));
  plotted("errors", traces, { xaxis: { title: { text: "estimate, tokens/s" }, type: "log" },
    yaxis: { title: { text: "error of the estimated cycles, %" }, zeroline: true } });
}

// --- table -----------------------------------------------------------------------------------

let order = null;

function drawTable() {
  const columns = ["point", ...Object.keys(DATA.axes), ...DATA.shown, "status", "reason"];
  const value = (point, name) => {
    if (name === "point") return point.position;
    if (name === "status") return Object.entries(point.status).map(([stage, status]) => `${stage}: ${status}`).join(", ");
    if (name === "reason") return point.reason;
    return name in point.values ? point.values[name] : figure(point, name);
  };
  let points = visible();
  if (order) {
    const compare = (a, b) => (a === b ? 0 : a === undefined ? 1 : b === undefined ? -1 : a < b ? -1 : 1);
    points = [...points].sort((a, b) => order.way * compare(value(a, order.name), value(b, order.name)));
  }
  const table = document.createElement("table"), head = element("tr", "", element("thead", "", table));
  for (const name of columns) {
    element("th", title(name), head).addEventListener("click", () => {
      order = { name, way: order && order.name === name ? -order.way : DATA.best[name] === "max" ? -1 : 1 };
      drawTable();
    });
  }
  const body = element("tbody", "", table);
  for (const point of points.slice(0, 1000)) {
    const row = element("tr", "", body, { className: point.recommended ? "best" : "" });
    for (const name of columns) {
      const shown = name === "point" ? label(point) + (point.recommended ? " *" : "") : number(value(point, name));
      element("td", shown, row, { className: name === "reason" ? "reason" : "" });
    }
  }
  byId("table").replaceChildren(table);
  byId("table-count").textContent = `${Math.min(points.length, 1000)} of ${DATA.total} points; a click on a column sorts; results.csv has all.`;
}

function draw() {
  drawFront();
  drawRoofline();
  drawHeat();
  drawResources();
  drawStalls();
  drawTable();
}

function start() {
  const objectives = DATA.shown.filter((name) => DATA.points.some((point) => has(point, name)));
  makeFilters();
  makeChoice("front-x", objectives, DATA.start[1]);
  makeChoice("front-y", objectives, DATA.start[0]);
  const axes = Object.keys(DATA.axes).filter((name) => DATA.axes[name].length > 1);
  makeChoice("heat-x", axes, axes[0]);
  makeChoice("heat-y", axes, axes[1]);
  makeChoice("heat-metric", objectives, DATA.start[0]);
  byId("stall-phase").addEventListener("change", draw);
  byId("heat-section").hidden = axes.length < 2;
  draw();
  document.body.dataset.ready = "yes";
}
