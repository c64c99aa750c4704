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
const isMidnight = (i) => madrid(i).getUTCHours() === 0;
const midnights = [];
for (let i = 0; i < demand.hours; i++) if (isMidnight(i)) midnights.push(i);

/** What writes an hour in a format; making it takes far longer than using it. */
function writer(format) {
  const { format: write } = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...format });
  return (i) => write(madrid(i)).replace(/^(\w+),/, "$1");
}
const CLOCK = { hour: "2-digit", minute: "2-digit" };
const DATE = { day: "numeric", month: "short", year: "numeric" };
const clock = writer(CLOCK);
const date = writer({ weekday: "short", ...DATE });
const when = writer({ weekday: "short", ...DATE, ...CLOCK });
const briefly = writer({ ...DATE, ...CLOCK });

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
    hours <= 12 ? [() => true, CLOCK]
    : hours <= 50 ? [(t) => t.getUTCHours() % 3 === 0, CLOCK]
    : hours <= 10 * 24 ? [(t) => t.getUTCHours() === 0, { weekday: "short", day: "numeric", month: "short" }]
    : hours <= 70 * 24 ? [(t) => t.getUTCHours() === 0 && t.getUTCDay() === 1, { day: "numeric", month: "short" }]
    : hours <= 500 * 24 ? [(t) => t.getUTCHours() === 0 && t.getUTCDate() === 1, { month: "short", year: "2-digit" }]
    : [(t) => t.getUTCHours() === 0 && t.getUTCDate() === 1 && t.getUTCMonth() % 6 === 0, { month: "short", year: "numeric" }];
  const all = [];
  for (let i = from; i < to; i++) if (marked(madrid(i))) all.push(i);
  const every = Math.ceil((all.length * 88) / element("graph").clientWidth); // px a label
  const places = all.filter((_, place) => place % every === 0);
  return { tickvals: places, ticktext: places.map(writer(format)) };
}

/** What means are drawn of, each from one hour up to another: hours, or of many days the days. */
function spans({ from, to }) {
  const days = midnights.filter((i) => i >= from && i < to);
  if (days.length > MOST_DAYS_IN_HOURS) return days.map((day, n) => [day, days[n + 1] ?? to]);
  return Array.from({ length: to - from }, (_, n) => [from + n, from + n + 1]);
}

/** The mean of a span of which every hour is known. */
function meanOf(values, span) {
  const mw = values.slice(...span);
  return mw.includes(null) ? null : mean(mw);
}

/** The titles of the lines that a person has hidden in the legend. */
function hidden() {
  return (element("graph").data ?? []).filter(({ visible }) => visible === "legendonly").map(({ name }) => name);
}

function showGraph() {
  const color = colors();
  const drawn = spans(shown);
  const daily = drawn[0][1] - drawn[0][0] > 1;
  const off = hidden();
  const lines = LINES.map((line) => ({
    ...line, color: color(line.color), mw: drawn.map((span) => meanOf(demand[line.field], span)),
  }));
  const seen = lines.filter(({ title }) => !off.includes(title)).reverse();
  // A mean is drawn as long as what it is of, so that a single one is seen as well.
  const traces = lines.map((line) => ({
    x: drawn.flat(), y: line.mw.flatMap((mw) => [mw, mw]), name: line.title, mode: "lines",
    line: { color: line.color, width: line.width, dash: line.dash },
    visible: off.includes(line.title) ? "legendonly" : true, hoverinfo: "skip",
  }));
  // One box for all lines, as each by itself would show its nearest known hour, which may be another.
  const told = ([from], n) => [
    `<b>${daily ? `${date(from)}, mean of the day` : when(from)}</b>`,
    ...seen.filter(({ mw }) => mw[n] !== null).map((line) =>
      `<span style="color:${line.color}">▬</span> ${line.title}: ${number(line.mw[n])} MW`),
  ].join("<br>");
  traces.push({
    x: drawn.map(([from, to]) => (from + to) / 2),
    y: drawn.map((_, n) => seen.find(({ mw }) => mw[n] !== null)?.mw[n] ?? null),
    customdata: drawn.map(told), hovertemplate: "%{customdata}<extra></extra>", hoverinfo: "y",
    mode: "lines", line: { color: "rgba(0,0,0,0)" }, showlegend: false,
  });
  element("graph-note").textContent = daily ? "Means of whole days" : "Means of hours";
  const axis = { gridcolor: color("--line"), linecolor: color("--line"), zeroline: false };
  Plotly.react("graph", traces, {
    paper_bgcolor: color("--card"), plot_bgcolor: color("--card"),
    font: { color: color("--ink"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 10, r: 12, t: 10, b: 28 },
    // A finger scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hovermode: "x", hoverdistance: -1,
    hoverlabel: { bgcolor: color("--card"), bordercolor: color("--soft"), font: { color: color("--ink") }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "reversed" },
    xaxis: {
      ...axis, range: [shown.from, shown.to], ...ticks(shown), tickangle: 0,
      showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "dot", spikecolor: color("--soft"),
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
      bar: { thickness: 0 }, borderwidth: 0,
      threshold: difference === null ? undefined : {
        value: Math.max(-500, Math.min(500, difference)), thickness: 1,
        line: { color: color("--ink"), width: 5 },
      },
      steps: bands.map(([name, low, high]) => ({ color: color(name), range: [low, high] })),
    },
  }], {
    paper_bgcolor: "rgba(0,0,0,0)", margin: { l: 34, r: 34, t: 22, b: 6 },
    font: { color: color("--ink"), family: "system-ui, sans-serif", size: 12 },
  }, { responsive: true, displayModeBar: false });
}

// The table: rows are made as they are scrolled to, as years are 30,000 of them.

const narrow = matchMedia("(max-width: 760px)");
const COLUMNS = [
  { title: "Hour", value: (i) => i, text: (i) => (narrow.matches ? briefly : when)(i) },
  ...[...LINES].reverse().map(({ field, title }) => ({
    title, value: (i) => demand[field][i], text: (i) => number(demand[field][i]),
  })),
  { title: "Difference", value: difference, text: (i) => number(difference(i)) },
];
const NEWEST_FIRST = { column: 0, down: true };
let order = NEWEST_FIRST;
let rows = [];
let atRest = 0; // px by which the table is scrolled before a person scrolls it

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
  const body = document.querySelector("tbody");
  body.replaceChildren();
  moreRows();
  // What is still to come stands above the newest measured hour, out of sight.
  const first = order === NEWEST_FIRST ? rows.findIndex((i) => real[i] !== null) : 0;
  while (body.rows.length <= first) moreRows();
  const table = element("hours-table");
  table.scrollTop = first > 0 ? body.rows[first].offsetTop - body.offsetTop : 0;
  atRest = table.scrollTop;
}

function moreRows() {
  const body = document.querySelector("tbody");
  for (const i of rows.slice(body.rows.length, body.rows.length + ROWS_AT_ONCE)) {
    const row = body.insertRow();
    for (const { text } of COLUMNS) row.insertCell().textContent = text(i);
  }
}

document.querySelector("thead tr").append(...COLUMNS.map((_, column) => {
  const head = document.createElement("th");
  head.append(document.createElement("button"));
  head.firstChild.addEventListener("click", () => {
    const down = order.column === column ? !order.down : column === 0;
    order = column === 0 && down ? NEWEST_FIRST : { column, down };
    showTable();
  });
  return head;
}));

// What a person does

let pressed = null;

function rangeText({ from, to }) {
  const whole = isMidnight(from) && isMidnight(to);
  const [first, last] = [date(from), date(whole ? to - 1 : to)];
  if (whole) return first === last ? first : `${first} – ${last}`;
  return `${when(from)} – ${first === last ? clock(to) : when(to)}`;
}

function showAll(range, days = null) {
  [shown, pressed] = [range, days];
  document.querySelectorAll("[data-days]").forEach((button) => {
    button.ariaPressed = String(button.dataset.days === days);
  });
  // Not `disabled`, which would take the keyboard's focus away.
  element("earlier").ariaDisabled = String(shown.from === 0);
  element("later").ariaDisabled = String(shown.to === demand.hours);
  element("range").textContent = rangeText(shown);
  showGraph();
  showFigures();
  showTable();
}

function choose(days) {
  chosen = days;
  history.replaceState(null, "", `#${days}`); // a reload shows the same
  showAll(newestDays(days), days);
}

/** Show what has been dragged over: whole hours, or whole days where days are drawn. */
function zoom(from, to) {
  from = Math.max(0, Math.floor(from));
  to = Math.min(demand.hours, Math.ceil(to));
  if (spans({ from, to }).length < to - from) {
    from = midnights.findLast((i) => i <= from);
    to = midnights.find((i) => i >= to) ?? demand.hours;
  }
  showAll({ from, to });
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

/** Whether a reload would take nothing away that a person has done. */
function untouched() {
  return pressed !== null && order === NEWEST_FIRST && element("hours-table").scrollTop === atRest && !hidden().length;
}

function listen() {
  document.querySelectorAll("[data-days]").forEach((button) =>
    button.addEventListener("click", () => choose(button.dataset.days)));
  for (const [id, way] of [["earlier", -1], ["later", 1]])
    element(id).addEventListener("click", ({ currentTarget }) => currentTarget.ariaDisabled === "true" || move(way));
  const graph = element("graph");
  // Dragging over the graph shows that part; a double click goes back.
  graph.on("plotly_relayout", ({ "xaxis.range[0]": from, "xaxis.range[1]": to }) => from !== undefined && zoom(from, to));
  graph.on("plotly_doubleclick", () => choose(chosen));
  graph.on("plotly_restyle", showGraph); // a line hidden in the legend is in the box no more
  new ResizeObserver(() => {
    const { tickvals, ticktext } = ticks(shown);
    Plotly.relayout(graph, { "xaxis.tickvals": tickvals, "xaxis.ticktext": ticktext });
  }).observe(graph);
  element("hours-table").addEventListener("scroll", ({ target }) => {
    if (target.scrollTop + target.clientHeight > target.scrollHeight - 300) moreRows();
  });
  narrow.addEventListener("change", showTable);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    showGraph();
    showFigures();
  });
}

if (demand.hours) {
  const asked = location.hash.slice(1);
  choose(document.querySelector(`[data-days="${CSS.escape(asked)}"]`) ? asked : chosen);
  listen();
} else {
  element("range").textContent = "Nothing is stored yet.";
  document.querySelectorAll("nav button").forEach((button) => { button.disabled = true; });
  document.querySelector("main").remove();
}
showAge();
setInterval(() => {
  showAge();
  if (performance.now() > PAGE_LIFE && (!demand.hours || untouched())) location.reload();
}, 30e3);
