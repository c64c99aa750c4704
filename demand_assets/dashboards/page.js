"use strict";
// The page's only script: what is shown is told by the hours from `shown.from` up to `shown.to`.

const demand = JSON.parse(document.getElementById("demand").textContent);
const LINES = [
  { field: "ForecastModel", title: "Next-day forecast", color: "--model", dash: "dot", width: 2 },
  { field: "ForecastDemand", title: "Operator's forecast", color: "--forecast", dash: "solid", width: 1.5 },
  { field: "RealDemand", title: "Measured", color: "--real", dash: "solid", width: 2.5 },
].filter(({ field }) => demand[field]?.some((mw) => mw !== null));
const nothing = new Array(demand.hours).fill(null);
const real = demand.RealDemand ?? nothing;
const forecast = demand.ForecastDemand ?? nothing;
const model = demand.ForecastModel ?? nothing;
const PAGE_LIFE = 10 * 60e3; // ms; today is asked for as often
const ROWS_AT_ONCE = 200;
const MOST_DAYS_IN_HOURS = 100; // more, and hours would be one block of color
const element = (id) => document.getElementById(id);

// Time: hour i starts `demand.start + i` hours after 1970 in UTC; Madrid is ahead by its offset.

const offset = new Int8Array(demand.hours + 1);
for (const [from, hours] of demand.offsets) offset.fill(hours, from);
const utc = (i) => (demand.start + i) * 3600e3;
const madrid = (i) => new Date(utc(i) + offset[Math.min(i, demand.hours)] * 3600e3); // read as UTC
const write = (i, format) =>
  madrid(i).toLocaleString("en-GB", { timeZone: "UTC", ...format }).replace(",", "");
const CLOCK = { hour: "2-digit", minute: "2-digit" };
const DATE = { weekday: "short", day: "numeric", month: "short", year: "numeric" };
const when = (i) => write(i, { ...DATE, ...CLOCK });
const midnights = [];
for (let i = 0; i < demand.hours; i++) if (madrid(i).getUTCHours() === 0) midnights.push(i);

const newest = real.findLastIndex((mw) => mw !== null);
let chosen = "7"; // days, or all
let shown = { from: 0, to: demand.hours };

/** Days [first, first + days) of those in the data, as a range of hours. */
function daysFrom(first, days) {
  const start = Math.max(0, Math.min(first, midnights.length - days));
  return { from: midnights[start] ?? 0, to: midnights[start + days] ?? demand.hours };
}

/** The newest days: a single one is that last measured, more run to the end of what is forecast. */
function newestDays(days) {
  if (days === "all") return { from: 0, to: demand.hours };
  const last = days === "1" ? midnights.findLastIndex((i) => i <= newest) : midnights.length - 1;
  return daysFrom(Math.max(0, last + 1 - Number(days)), Number(days));
}

// The figures of a range

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

function mape(of, { from, to }) {
  const errors = [];
  for (let i = from; i < to; i++)
    if (real[i] !== null && of[i] !== null && real[i] !== 0)
      errors.push((Math.abs(of[i] - real[i]) / real[i]) * 100);
  return mean(errors);
}

function figures({ from, to }) {
  let peak = null, energy = 0, known = 0;
  const differences = [];
  for (let i = from; i < to; i++) {
    if (real[i] === null) continue;
    known += 1;
    energy += real[i] / 1000; // a mean of one hour in MW is as many MWh
    if (peak === null || real[i] > real[peak]) peak = i;
    if (forecast[i] !== null) differences.push(real[i] - forecast[i]);
  }
  return { peak, known, energy: known ? energy : null, difference: mean(differences) };
}

function show(id, value, digits, unit, signDisplay = "auto") {
  const text = { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay };
  element(id).value = value ?? "";
  element(id).textContent = value === null ? "–" : `${value.toLocaleString("en", text)} ${unit}`;
}

function showFigures() {
  const { peak, known, energy, difference } = figures(shown);
  show("peak", peak === null ? null : real[peak], 0, "MW");
  element("peak-at").textContent = peak === null ? "nothing measured" : when(peak);
  show("energy", energy, 1, "GWh");
  element("hours").textContent = `in ${known.toLocaleString("en")} measured hours`;
  show("mape", mape(forecast, shown), 2, "%");
  show("mape-model", mape(model, shown), 2, "%");
  element("model-tile").hidden = !LINES.some(({ field }) => field === "ForecastModel");
  show("difference", difference, 0, "MW", "exceptZero");
  showGauge(difference);
}

// The pictures

function colors() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).trim();
}

/** Where the time axis is marked, and with what, on Madrid's clock. */
function ticks({ from, to }) {
  const hours = to - from;
  const [marked, format] =
    hours <= 50 ? [(t) => t.getUTCHours() % 3 === 0, CLOCK]
    : hours <= 10 * 24 ? [(t) => t.getUTCHours() === 0, { weekday: "short", day: "numeric", month: "short" }]
    : hours <= 70 * 24 ? [(t) => t.getUTCHours() === 0 && t.getUTCDay() === 1, { day: "numeric", month: "short" }]
    : hours <= 500 * 24 ? [(t) => t.getUTCHours() === 0 && t.getUTCDate() === 1, { month: "short", year: "2-digit" }]
    : [(t) => t.getUTCHours() === 0 && t.getUTCDate() === 1 && t.getUTCMonth() % 6 === 0, { month: "short", year: "numeric" }];
  const all = [];
  for (let i = from; i < to; i++) if (marked(madrid(i))) all.push(i);
  const every = Math.ceil((all.length * 88) / element("graph").clientWidth); // px a label
  const places = all.filter((_, place) => place % every === 0);
  return { tickvals: places.map(utc), ticktext: places.map((i) => write(i, format)), tickangle: 0 };
}

/** The points of a line: hours; of many days their means, where all hours are known. */
function points(values, { from, to }) {
  const starts = midnights.filter((i) => i >= from && i < to);
  if (starts.length <= MOST_DAYS_IN_HOURS) {
    const hours = Array.from({ length: to - from }, (_, n) => from + n);
    return { at: hours, mw: values.slice(from, to), long: 1, shape: hours.length <= 200 ? "hvh" : "linear" };
  }
  const days = starts.map((start, n) => values.slice(start, starts[n + 1] ?? to));
  return { at: starts, mw: days.map((day) => (day.includes(null) ? null : mean(day))), long: 24, shape: "linear" };
}

function showGraph() {
  const color = colors();
  let daily = false;
  const traces = LINES.map((line) => {
    const { at, mw, long, shape } = points(demand[line.field], shown);
    daily = long === 24;
    return {
      // A mean is drawn in the middle of what it is of.
      x: at.map((i) => utc(i + long / 2)), y: mw, name: line.title, mode: "lines",
      customdata: at.map((i) => (daily ? `${write(i, DATE)}, mean of the day` : when(i))),
      hovertemplate: "%{y:,.0f} MW",
      line: { color: color(line.color), width: line.width, dash: line.dash, shape },
    };
  });
  element("graph-note").textContent = daily ? "Means of whole days" : "Means of hours";
  const axis = { gridcolor: color("--line"), linecolor: color("--line"), zeroline: false };
  Plotly.react("graph", traces, {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: color("--ink"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 10, r: 12, t: 10, b: 28 }, hovermode: "x unified",
    hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line") },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "reversed" },
    xaxis: {
      ...axis, type: "date", range: [utc(shown.from), utc(shown.to)], ...ticks(shown),
      unifiedhovertitle: { text: "%{customdata}" },
    },
    yaxis: { ...axis, tickformat: ",.0f", ticksuffix: " MW", automargin: true, fixedrange: true },
  }, { responsive: true, displayModeBar: false, doubleClick: false });
}

function showGauge(difference) {
  const color = colors();
  const bands = [["--bad", -500, -250], ["--fair", -250, -100], ["--good", -100, 100], ["--fair", 100, 250], ["--bad", 250, 500]];
  Plotly.react("gauge", [{
    type: "indicator", mode: "gauge", value: difference,
    gauge: {
      axis: { range: [-500, 500], tickvals: [-500, -250, -100, 0, 100, 250, 500] },
      bar: { color: color("--ink"), thickness: 0.22 }, borderwidth: 0,
      steps: bands.map(([name, low, high]) => ({ color: color(name), range: [low, high] })),
    },
  }], {
    paper_bgcolor: "rgba(0,0,0,0)", margin: { l: 34, r: 34, t: 22, b: 6 },
    font: { color: color("--ink"), family: "system-ui, sans-serif", size: 12 },
  }, { responsive: true, displayModeBar: false });
}

// The table: rows are made as they are scrolled to, as years are 30,000 of them.

const COLUMNS = [
  { title: "Hour", value: (i) => i, text: when },
  ...[...LINES].reverse().map(({ field, title }) => ({
    title: `${title}, MW`, value: (i) => demand[field][i], text: (i) => number(demand[field][i]),
  })),
  { title: "Difference, MW", value: difference, text: (i) => number(difference(i)) },
];
let order = { column: 0, down: true };
let rows = [];

function difference(i) {
  return real[i] === null || forecast[i] === null ? null : real[i] - forecast[i];
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
function number(mw) {
  return mw === null ? "–" : whole.format(mw);
}

function showTable() {
  const { value } = COLUMNS[order.column];
  rows = [];
  for (let i = shown.from; i < shown.to; i++)
    if (LINES.some(({ field }) => demand[field][i] !== null)) rows.push(i);
  // What is unknown comes last, whichever way the rest is sorted.
  const sign = order.down ? -1 : 1;
  rows.sort((a, b) => {
    const [one, other] = [value(a), value(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (one - other) || a - b;
  });
  document.querySelectorAll("th").forEach((head, column) => {
    const sorted = column === order.column;
    head.ariaSort = sorted ? (order.down ? "descending" : "ascending") : "none";
    head.firstChild.textContent = COLUMNS[column].title + (sorted ? (order.down ? " ▾" : " ▴") : "");
  });
  document.querySelector("tbody").replaceChildren();
  element("hours-table").scrollTop = 0;
  moreRows();
}

function moreRows() {
  const body = document.querySelector("tbody");
  for (const i of rows.slice(body.rows.length, body.rows.length + ROWS_AT_ONCE)) {
    const row = body.insertRow();
    for (const { text } of COLUMNS) row.insertCell().textContent = text(i);
  }
}

element("hours-table").addEventListener("scroll", ({ target }) => {
  if (target.scrollTop + target.clientHeight > target.scrollHeight - 300) moreRows();
});
document.querySelector("thead tr").append(...COLUMNS.map((_, column) => {
  const head = document.createElement("th");
  head.append(document.createElement("button"));
  head.firstChild.addEventListener("click", () => {
    order = { column, down: order.column === column ? !order.down : column === 0 };
    showTable();
  });
  return head;
}));

// What a person does

let pressed = null;

function showAll(range, days = null) {
  [shown, pressed] = [range, days];
  document.querySelectorAll("[data-days]").forEach((button) => {
    button.ariaPressed = String(button.dataset.days === days);
  });
  element("earlier").disabled = shown.from === 0;
  element("later").disabled = shown.to === demand.hours;
  const [first, last] = [write(shown.from, DATE), write(shown.to - 1, DATE)];
  element("range").textContent = first === last ? first : `${first} – ${last}`;
  showGraph();
  showFigures();
  showTable();
}

function choose(days) {
  chosen = days;
  history.replaceState(null, "", `#${days}`); // a reload shows the same
  showAll(newestDays(days), days);
}

/** Move by as many days as are shown. */
function move(way) {
  const first = midnights.findLastIndex((i) => i <= shown.from);
  const days = Math.max(1, midnights.filter((i) => i >= shown.from && i < shown.to).length);
  showAll(daysFrom(first + way * days, days));
}

function showAge() {
  const minutes = (Date.now() - utc(newest + 1)) / 60e3;
  const [amount, unit] = minutes < 120 ? [minutes, "minutes"] : minutes < 2880 ? [minutes / 60, "hours"] : [minutes / 1440, "days"];
  const pill = element("age");
  pill.className = `pill ${minutes <= demand.fresh.warn ? "good" : minutes <= demand.fresh.fail ? "fair" : "bad"}`;
  pill.textContent = newest < 0 ? "nothing measured yet" : `measured until ${Math.round(amount)} ${unit} ago`;
  pill.title = newest < 0 ? "" : when(newest + 1);
}

document.querySelectorAll("[data-days]").forEach((button) =>
  button.addEventListener("click", () => choose(button.dataset.days)));
element("earlier").addEventListener("click", () => move(-1));
element("later").addEventListener("click", () => move(1));

if (demand.hours) {
  const asked = location.hash.slice(1);
  choose(document.querySelector(`[data-days="${CSS.escape(asked)}"]`) ? asked : chosen);
  // Dragging over the graph shows that part; a double click goes back.
  const index = (ms) => Math.round(new Date(ms) / 3600e3) - demand.start;
  element("graph").on("plotly_relayout", (change) => {
    const [from, to] = [change["xaxis.range[0]"], change["xaxis.range[1]"]].map((x) => x && index(`${x}Z`.replace(" ", "T")));
    if (to > from) showAll({ from: Math.max(0, from), to: Math.min(demand.hours, to) });
  });
  element("graph").on("plotly_doubleclick", () => choose(chosen));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => showAll(shown, pressed));
} else {
  element("range").textContent = "Nothing is stored yet.";
}
showAge();
setInterval(showAge, 30e3);
setTimeout(() => location.reload(), PAGE_LIFE);
