// What is shown: the data, which never changes, and the view of it, which every control changes and then draws anew.

const DATA = JSON.parse(document.getElementById("data").textContent);

// Two experiments may hold runs of the same name.
DATA.runs.forEach((run, at) => (run.id = at));

const view = {
  single: false, // every run by itself instead of a mean with a band over its seeds
  hidden: new Map(), // filter -> Set of the values that are not shown
  hiddenRuns: new Set(),
  lossAxis: "whole",
  quantity: DATA.first[0] ?? null,
  matrix: null,
  other: null,
  stepAt: 0, // which of the probed steps
};

const $ = (id) => document.getElementById(id);

// Text is always set as text: a run may be called anything.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick" || name === "onchange") element[name] = value;
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Plotly reads a subset of HTML in its texts.
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

const treatmentOf = (run) => DATA.treatments[run.treatment];

const FILTERS = [
  ...DATA.factors.map((factor, at) => ({ ...factor, of: (run) => treatmentOf(run).values[at] })),
  { key: "seed", title: "Seed", of: (run) => (run.seed === null ? "unknown" : String(run.seed)) },
  { key: "outcome", title: "Outcome", of: (run) => run.verdict },
]
  .map((filter) => ({ ...filter, values: filter.values ?? distinct(DATA.runs.map(filter.of)) }))
  .filter((filter) => filter.values.length > 1);

function distinct(values) {
  return [...new Set(values)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
}

function isShown(run) {
  return !view.hiddenRuns.has(run.id) && FILTERS.every((filter) => !view.hidden.get(filter.key)?.has(filter.of(run)));
}

const shownRuns = () => DATA.runs.filter(isShown);

// What is one line, one heatmap, one bar: a run, or the seeds of a treatment that may be averaged. A run that was lost
// or has not ended stays a line of its own: a mean whose seeds drop out one by one would jump.
function units() {
  const runs = shownRuns();
  const alone = (run) => ({ treatment: treatmentOf(run), runs: [run], mean: false, label: labelOf(run) });
  if (view.single) return runs.map(alone);
  return DATA.treatments.flatMap((treatment, number) => {
    const own = runs.filter((run) => run.treatment === number);
    const averaged = own.filter((run) => run.averaged);
    const mean = { treatment, runs: averaged, mean: averaged.length > 1, label: treatment.label };
    return [...(averaged.length ? [mean] : []), ...own.filter((run) => !run.averaged).map(alone)];
  });
}

function labelOf(run) {
  const seed = run.seed === null ? "" : `, seed ${run.seed}`;
  return treatmentOf(run).label + seed + (run.averaged ? "" : ` (${run.verdict})`);
}

const finite = (values) => values.filter((value) => value !== null && Number.isFinite(value));
const least = (values) => values.reduce((a, b) => Math.min(a, b), Infinity);
const most = (values) => values.reduce((a, b) => Math.max(a, b), -Infinity);

// Mean, smallest and largest; of what varies by factors the geometric mean, 0 where one is 0. Nothing where there is no
// value.
function summarise(values, log) {
  const known = finite(values).filter((value) => !log || value >= 0);
  if (!known.length) return null;
  const average = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
  return {
    mean: log ? Math.exp(average(known.map(Math.log))) : average(known),
    low: least(known),
    high: most(known),
    n: known.length,
  };
}

// A 0 has no place on a logarithmic axis: it is drawn at the floor, the smallest value above it, and this is said of it.
const AT_FLOOR = ", drawn at the smallest value above 0";

function number(value, digits = 4) {
  if (value === null || value === undefined) return "";
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e5 || size < 1e-3)
    ? value.toExponential(2)
    : String(Number(value.toPrecision(digits)));
}
