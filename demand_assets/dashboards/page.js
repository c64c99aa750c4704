"use strict";
// The only script of the page. It shows the hours from `shown.from` to `shown.to`, end excluded.

const demand = JSON.parse(document.getElementById("demand").textContent);
const STYLES = { RealDemand: { dash: "solid", width: 2.5 }, ForecastModel: { dash: "dot", width: 2 } };
const OTHER_STYLE = { dash: "solid", width: 1.5 };
/** The series that have values, in the order of the legend and of the table. */
const SERIES = demand.series.filter(({ field }) => demand[field]?.some((mw) => mw !== null));
const unknown = new Array(demand.hours).fill(null);
const real = demand.RealDemand ?? unknown;
const forecast = demand.ForecastDemand ?? unknown;
const model = demand.ForecastModel ?? unknown;
const RELOAD_AFTER = 10 * 60e3; // ms; today is refreshed as often
const ROWS_AT_ONCE = 200;
const MAX_DAYS_IN_HOURS = 100; // the hours of more days would be one block of color
const element = (id) => document.getElementById(id);

// Time: hour i starts `demand.start + i` hours after 1970 in UTC. Madrid time is ahead by an offset.

const offset = new Int8Array(demand.hours + 1);
for (const [from, hours] of demand.offsets) offset.fill(hours, from);
const utc = (i) => (demand.start + i) * 3600e3;
const madrid = (i) => new Date(utc(i) + offset[Math.min(i, demand.hours)] * 3600e3); // read as UTC
const isMidnight = (i) => madrid(i).getUTCHours() === 0;
const midnights = [];
for (let i = 0; i < demand.hours; i++) if (isMidnight(i)) midnights.push(i);

/** A function that formats an hour. Keep it: to create one takes far longer than to call it. */
function formatter(options) {
  const { format } = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", ...options });
  return (i) => format(madrid(i)).replace(/^(\w+),/, "$1");
}
const CLOCK = { hour: "2-digit", minute: "2-digit" };
const DATE = { day: "numeric", month: "short", year: "numeric" };
const clock = formatter(CLOCK);
const date = formatter({ weekday: "short", ...DATE });
const when = formatter({ weekday: "short", ...DATE, ...CLOCK });
const briefly = formatter({ ...DATE, ...CLOCK });

const newest = real.findLastIndex((mw) => mw !== null);
let chosen = "7"; // days, or "all"
let shown = { from: 0, to: demand.hours };

/** The range of hours of the days [first, first + days), by their place in the data. */
function daysFrom(first, days) {
  const start = Math.max(0, Math.min(first, midnights.length - days));
  return { from: midnights[start] ?? 0, to: midnights[start + days] ?? demand.hours };
}

/** The newest days: one day is the last one with measured hours, more days include forecast ones. */
function newestDays(days) {
  if (days === "all") return { from: 0, to: demand.hours };
  const last = days === "1" ? midnights.findLastIndex((i) => i <= newest) : midnights.length - 1;
  return daysFrom(Math.max(0, last + 1 - Number(days)), Number(days));
}

// Figures of a range

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
    energy += real[i] / 1000; // a mean of 1 MW over one hour is 1 MWh
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
  element("model-tile").hidden = !SERIES.some(({ field }) => field === "ForecastModel");
  show("difference", difference, 0, "MW", "exceptZero");
  showGauge(difference);
}

// Graph and gauge

const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 760px)");

function colors() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(name).trim();
}

/** The color of a series; lighter in the dark theme. */
function lineColor({ color }) {
  const parts = color.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
  const white = dark.matches ? 0.35 : 0;
  return `rgb(${parts.map((part) => Math.round(part + (255 - part) * white)).join(", ")})`;
}

/** Positions and labels on the time axis, in Madrid time. */
function ticks({ from, to }) {
  const hours = to - from;
  const [marked, format] =
    hours <= 12 ? [() => true, CLOCK]
    : hours <= 50 ? [(t) => t.getUTCHours() % 3 === 0, CLOCK]
    : hours <= 10 * 24 ? [(t) => t.getUTCHours() === 0, { weekday: "short", day: "numeric", month: narrow.matches ? undefined : "short" }]
    : hours <= 70 * 24 ? [(t) => t.getUTCHours() === 0 && t.getUTCDay() === 1, { day: "numeric", month: "short" }]
    : hours <= 500 * 24 ? [(t) => t.getUTCHours() === 0 && t.getUTCDate() === 1, { month: "short", year: "2-digit" }]
    : [(t) => t.getUTCHours() === 0 && t.getUTCDate() === 1 && t.getUTCMonth() % 6 === 0, { month: "short", year: "numeric" }];
  const all = [];
  for (let i = from; i < to; i++) if (marked(madrid(i))) all.push(i);
  const width = element("graph").clientWidth - 100; // px, without the margins and the labels in MW
  const every = Math.ceil((all.length * (narrow.matches ? 66 : 88)) / Math.max(1, width));
  const places = all.filter((_, place) => place % every === 0);
  return { tickvals: places, ticktext: places.map(formatter(format)) };
}

/** The spans [from, to) whose means are drawn: hours, or whole days if the range is long. */
function spans({ from, to }) {
  const days = midnights.filter((i) => i >= from && i < to);
  if (days.length > MAX_DAYS_IN_HOURS) return days.map((day, n) => [day, days[n + 1] ?? to]);
  return Array.from({ length: to - from }, (_, n) => [from + n, from + n + 1]);
}

/** The mean of a span, null unless every hour is known. */
function meanOf(values, span) {
  const mw = values.slice(...span);
  return mw.includes(null) ? null : mean(mw);
}

/** The titles of the lines that the user has hidden in the legend. */
function hidden() {
  return (element("graph").data ?? []).filter(({ visible }) => visible === "legendonly").map(({ name }) => name);
}

function showGraph() {
  const drawn = spans(shown);
  const daily = drawn[0][1] - drawn[0][0] > 1;
  const off = hidden();
  const lines = SERIES.map((series) => ({
    ...(STYLES[series.field] ?? OTHER_STYLE), title: series.title, color: lineColor(series),
    mw: drawn.map((span) => meanOf(demand[series.field], span)),
  }));
  // A mean is drawn from the start to the end of its span, so that a single one is visible as well.
  // The first series is drawn last, above the others.
  const traces = [...lines].reverse().map(({ title, color, width, dash, mw }) => ({
    x: drawn.flat(), y: mw.flatMap((value) => [value, value]), name: title, mode: "lines",
    line: { color, width, dash }, visible: off.includes(title) ? "legendonly" : true, hoverinfo: "skip",
  }));
  traces.push(hoverBox(drawn, daily, lines.filter(({ title }) => !off.includes(title))));
  element("graph-note").textContent = daily ? "Means of whole days" : "Means of hours";
  Plotly.react("graph", traces, graphLayout(), { responsive: true, displayModeBar: false, doubleClick: false });
}

/** An invisible line with one box for all series; each by itself would show its nearest known hour. */
function hoverBox(drawn, daily, lines) {
  const text = ([from], n) => [
    `<b>${daily ? `${date(from)}, mean of the day` : when(from)}</b>`,
    ...lines.filter(({ mw }) => mw[n] !== null).map(({ title, color, mw }) =>
      `<span style="color:${color}">▬</span> ${title}: ${number(mw[n])} MW`),
  ].join("<br>");
  return {
    x: drawn.map(([from, to]) => (from + to) / 2),
    y: drawn.map((_, n) => lines.find(({ mw }) => mw[n] !== null)?.mw[n] ?? null),
    customdata: drawn.map(text), hovertemplate: "%{customdata}<extra></extra>", hoverinfo: "y",
    mode: "lines", line: { color: "rgba(0,0,0,0)" }, showlegend: false,
  };
}

function graphLayout() {
  const color = colors();
  const axis = { gridcolor: color("--line"), linecolor: color("--line"), zeroline: false };
  return {
    paper_bgcolor: color("--card"), plot_bgcolor: color("--card"),
    font: { color: color("--ink"), family: "system-ui, sans-serif", size: 13 },
    margin: { l: 10, r: 12, t: 10, b: 28 },
    // On a touch screen, dragging scrolls the page.
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    hovermode: "x", hoverdistance: -1,
    hoverlabel: { bgcolor: color("--card"), bordercolor: color("--soft"), font: { color: color("--ink") }, align: "left" },
    legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", traceorder: "reversed" },
    xaxis: {
      ...axis, range: [shown.from, shown.to], ...ticks(shown), tickangle: 0,
      showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "dot", spikecolor: color("--soft"),
    },
    yaxis: { ...axis, tickformat: ",.0f", ticksuffix: " MW", automargin: true, fixedrange: true },
  };
}

function showGauge(difference) {
  const color = colors();
  const { bands, end } = demand.gauge; // each band is a level and its start
  const limits = [...bands.map(([, start]) => start), end];
  Plotly.react("gauge", [{
    type: "indicator", mode: "gauge", value: difference,
    gauge: {
      axis: { range: [limits[0], end], tickvals: [...limits, 0] },
      bar: { thickness: 0 }, borderwidth: 0,
      threshold: difference === null ? undefined : {
        value: Math.max(limits[0], Math.min(end, difference)), thickness: 1,
        line: { color: color("--ink"), width: 5 },
      },
      steps: bands.map(([level], n) => ({ color: color(`--${level}`), range: [limits[n], limits[n + 1]] })),
    },
  }], {
    paper_bgcolor: "rgba(0,0,0,0)", margin: { l: 34, r: 34, t: 22, b: 6 },
    font: { color: color("--ink"), family: "system-ui, sans-serif", size: 12 },
  }, { responsive: true, displayModeBar: false });
}

// Table: rows are created while the user scrolls, as several years have 30,000 of them.

const COLUMNS = [
  { title: "Hour", value: (i) => i, text: (i) => (narrow.matches ? briefly : when)(i) },
  ...SERIES.map(({ field, title }) => ({
    title, value: (i) => demand[field][i], text: (i) => number(demand[field][i]),
  })),
  { title: "Difference", value: difference, text: (i) => number(difference(i)) },
];
const NEWEST_FIRST = { column: 0, down: true };
let order = NEWEST_FIRST;
let rows = [];
let initialScroll = 0; // px by which the table is scrolled before the user scrolls it

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
    if (SERIES.some(({ field }) => demand[field][i] !== null)) rows.push(i);
  // Unknown values come last in both directions.
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
  // Hours in the future are above the newest measured hour; scroll past them.
  const first = order === NEWEST_FIRST ? rows.findIndex((i) => real[i] !== null) : 0;
  while (body.rows.length <= first) moreRows();
  const table = element("hours-table");
  table.scrollTop = first > 0 ? body.rows[first].offsetTop - body.offsetTop : 0;
  initialScroll = table.scrollTop;
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
  head.scope = "col";
  head.append(document.createElement("button"));
  head.firstChild.addEventListener("click", () => {
    const down = order.column === column ? !order.down : column === 0;
    order = column === 0 && down ? NEWEST_FIRST : { column, down };
    showTable();
  });
  return head;
}));

// What the user does

let pressed = null;

function rangeText({ from, to }) {
  const whole = isMidnight(from) && isMidnight(to);
  const [first, last] = [date(from), date(whole ? to - 1 : to)];
  if (whole) return first === last ? first : `${first} – ${last}`;
  return `${when(from)} – ${first === last ? clock(to) : when(to)}`;
}

/** The start of an hour in UTC, such as 2023-03-26T00:00Z. */
const instant = (i) => new Date(utc(i)).toISOString().replace(":00.000Z", "Z");

/** The range in a fragment such as `range=2023-03-26T22:00Z/2023-03-27T22:00Z`, null if it holds no stored hour. */
function rangeIn(fragment) {
  const [from, to] = (fragment.match(/^range=([^/]+)\/([^/]+)$/) ?? []).slice(1)
    .map((text) => Math.round(Date.parse(text) / 3600e3) - demand.start);
  const range = { from: Math.max(0, from), to: Math.min(demand.hours, to) };
  return range.from < range.to ? range : null;
}

/** Show what the fragment of the address asks for, or the chosen days. */
function showRequested() {
  const requested = location.hash.slice(1);
  const range = rangeIn(requested);
  if (range) showAll(range);
  else choose(document.querySelector(`[data-days="${CSS.escape(requested)}"]`) ? requested : chosen);
}

/** The hours shown as CSV, oldest first: UTC, Madrid time with its offset, and MW. */
function csv() {
  const lines = [["utc", "madrid", ...SERIES.map(({ field }) => field)]];
  for (let i = shown.from; i < shown.to; i++) {
    if (SERIES.every(({ field }) => demand[field][i] === null)) continue;
    const local = madrid(i).toISOString().replace(":00.000Z", `+0${offset[i]}:00`);
    lines.push([instant(i), local, ...SERIES.map(({ field }) => demand[field][i] ?? "")]);
  }
  return lines.map((line) => `${line.join(",")}\r\n`).join("");
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  const [first, last] = [shown.from, shown.to - 1].map((i) => madrid(i).toISOString().slice(0, 10));
  link.download = `demand-${first}-to-${last}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function showAll(range, days = null) {
  [shown, pressed] = [range, days];
  // A reload, or the address sent to somebody else, shows the same.
  history.replaceState(null, "", `#${days ?? `range=${instant(shown.from)}/${instant(shown.to)}`}`);
  document.querySelectorAll("[data-days]").forEach((button) => {
    button.ariaPressed = String(button.dataset.days === days);
  });
  // Not `disabled`, as the button would lose the keyboard's focus.
  element("earlier").ariaDisabled = String(shown.from === 0);
  element("later").ariaDisabled = String(shown.to === demand.hours);
  element("range").textContent = rangeText(shown);
  showGraph();
  showFigures();
  showTable();
}

function choose(days) {
  chosen = days;
  showAll(newestDays(days), days);
}

/** Show the part that was selected by dragging: whole hours, or whole days if days are drawn. */
function zoom(from, to) {
  from = Math.max(0, Math.floor(from));
  to = Math.min(demand.hours, Math.ceil(to));
  if (spans({ from, to }).length < to - from) {
    from = midnights.findLast((i) => i <= from);
    to = midnights.find((i) => i >= to) ?? demand.hours;
  }
  showAll({ from, to });
}

/** Move by the number of days that are shown; the direction is 1 or -1. */
function move(direction) {
  const first = midnights.findLastIndex((i) => i <= shown.from);
  const days = Math.max(1, midnights.filter((i) => i >= shown.from && i < shown.to).length);
  showAll(daysFrom(first + direction * days, days));
}

function showAge() {
  const minutes = (Date.now() - utc(newest + 1)) / 60e3;
  const [amount, unit] = minutes < 120 ? [minutes, "minutes"] : minutes < 2880 ? [minutes / 60, "hours"] : [minutes / 1440, "days"];
  const pill = element("age");
  pill.className = `pill ${minutes <= demand.fresh.warn ? "good" : minutes <= demand.fresh.fail ? "fair" : "bad"}`;
  pill.textContent = newest < 0 ? "nothing measured yet" : `measured until ${Math.round(amount)} ${unit} ago`;
  pill.title = newest < 0 ? "" : when(newest + 1);
}

/** Whether a reload would undo nothing that the user has done. */
function untouched() {
  return pressed !== null && order === NEWEST_FIRST && element("hours-table").scrollTop === initialScroll && !hidden().length;
}

function listen() {
  document.querySelectorAll("[data-days]").forEach((button) =>
    button.addEventListener("click", () => choose(button.dataset.days)));
  for (const [id, direction] of [["earlier", -1], ["later", 1]])
    element(id).addEventListener("click", ({ currentTarget }) => currentTarget.ariaDisabled === "true" || move(direction));
  element("download").addEventListener("click", download);
  addEventListener("hashchange", showRequested);
  const graph = element("graph");
  // Dragging over the graph shows that part; a double click shows the chosen range again.
  graph.on("plotly_relayout", ({ "xaxis.range[0]": from, "xaxis.range[1]": to }) => from !== undefined && zoom(from, to));
  graph.on("plotly_doubleclick", () => choose(chosen));
  graph.on("plotly_restyle", showGraph); // removes a line that was hidden from the box
  new ResizeObserver(() => {
    const { tickvals, ticktext } = ticks(shown);
    Plotly.relayout(graph, { "xaxis.tickvals": tickvals, "xaxis.ticktext": ticktext });
  }).observe(graph);
  element("hours-table").addEventListener("scroll", ({ target }) => {
    if (target.scrollTop + target.clientHeight > target.scrollHeight - 300) moreRows();
  });
  narrow.addEventListener("change", showTable);
  dark.addEventListener("change", () => {
    showGraph();
    showFigures();
  });
}

if (demand.hours) {
  showRequested();
  listen();
} else {
  element("range").textContent = "Nothing is stored yet.";
  document.querySelectorAll("nav button").forEach((button) => { button.disabled = true; });
  document.querySelector("main").remove();
}
showAge();
setInterval(() => {
  showAge();
  if (performance.now() > RELOAD_AFTER && (!demand.hours || untouched())) location.reload();
}, 30e3);
