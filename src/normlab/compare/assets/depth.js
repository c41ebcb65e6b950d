// Values of the layers: profiles at one step, heatmaps over all steps.

const LAYERED = Object.keys(DATA.kinds).filter((name) => ["layers", "groups"].includes(DATA.kinds[name]));
const titleOf = (quantity) => DATA.titles[quantity] ?? quantity;
const STEPS = distinctSteps(LAYERED.length ? LAYERED : Object.keys(DATA.kinds));

function distinctSteps(quantities) {
  const found = new Set();
  for (const run of DATA.runs)
    for (const name of quantities) for (const step of run.probes[name]?.steps ?? []) found.add(step);
  return [...found].sort((a, b) => a - b);
}

const listed = (value) => (Array.isArray(value) ? value : Object.values(value));
const places = (quantity, units) => {
  const values = units.flatMap((unit) => unit.runs).flatMap((run) => run.probes[quantity]?.values ?? []);
  if (DATA.kinds[quantity] === "groups") return [...new Set(values.flatMap(Object.keys))];
  return Array.from({ length: most([0, ...values.map((value) => value.length)]) }, (_, at) => at + 1);
};
const valueAt = (value, place) => (Array.isArray(value) ? value[place - 1] : value?.[place]) ?? null;

// What spans more than a factor of thirty and is never negative is shown by its logarithm.
const isLog = memo((quantity) => {
  const values = DATA.runs
    .flatMap((run) => run.probes[quantity]?.values ?? [])
    .flatMap((value) => finite(listed(value).flat()));
  const positive = values.filter((value) => value > 0);
  return positive.length > 0 && least(values) >= 0 && most(positive) / least(positive) > 30;
});

// How the values of these units are drawn: on a logarithmic scale a 0 at the floor.
function scaleOf(all, quantity) {
  const values = all
    .flatMap((unit) => unit.runs)
    .flatMap((run) => run.probes[quantity]?.values ?? [])
    .flatMap((value) => finite(listed(value)));
  const positive = values.filter((value) => value > 0);
  const log = isLog(quantity) && positive.length > 0;
  return { values: log ? positive : values, log, floor: log ? least(positive) : null };
}

const isRaised = (point, { floor }) => floor !== null && point?.mean === 0;
const heightOf = (point, scale) => (isRaised(point, scale) ? scale.floor : (point?.mean ?? null));
const meaning = (point, scale) =>
  number(point.mean) +
  (isRaised(point, scale) ? AT_FLOOR : "") +
  (point.n > 1 ? `<br>seeds ${number(point.low)} to ${number(point.high)}, n=${point.n}` : "");

function memo(of) {
  const known = new Map();
  return (key) => known.get(key) ?? (known.set(key, of(key)), known.get(key));
}

// A run's value at a step: at the last look inside that is not later.
function lookInside(run, quantity, step) {
  const { steps = [], values = [] } = run.probes[quantity] ?? {};
  const at = steps.findLastIndex((own) => own <= step);
  return at < 0 ? null : { step: steps[at], value: values[at] };
}

function drawProfiles() {
  const step = STEPS[view.stepAt] ?? 0;
  $("step-shown").textContent = step;
  $("step").setAttribute("aria-valuetext", `step ${step}`);
  for (const card of $("profiles").children) {
    card.classList.toggle("chosen", card.dataset.quantity === view.quantity);
    drawProfile(card.querySelector(".chart"), card.dataset.quantity, 190);
  }
  if (view.quantity) drawProfile("profile-chart", view.quantity, 300);
}

function drawProfile(chart, quantity, height) {
  const all = units();
  const scale = scaleOf(all, quantity);
  const x = places(quantity, all);
  const traces = all.flatMap((unit) => profile(unit, quantity, x, scale));
  const groups = DATA.kinds[quantity] === "groups";
  draw(chart, traces, {
    height,
    margin: { l: 52, r: 8, t: 8, b: groups ? 60 : 34 },
    xaxis: axis(
      groups
        ? { type: "category" }
        : { title: { text: "block", standoff: 4 }, dtick: x.length <= 12 ? 1 : null, range: [0.7, x.length + 0.3] },
    ),
    yaxis: axis({ range: profileRange(scale), nticks: 5, ...logAxis(scale.log) }),
  });
}

function profile(unit, quantity, x, scale) {
  const looks = unit.runs.map((run) => lookInside(run, quantity, STEPS[view.stepAt])).filter(Boolean);
  if (!looks.length) return [];
  const points = x.map((place) =>
    summarise(
      looks.map((look) => valueAt(look.value, place)),
      scale.log,
    ),
  );
  const colour = ink(unit.treatment.colour);
  const known = points.map((point, at) => ({ point, at })).filter(({ point }) => point);
  const lines = [
    {
      x,
      y: points.map((point) => heightOf(point, scale)),
      mode: "lines+markers",
      line: { color: colour, width: 1.8, dash: unit.treatment.dash },
      marker: {
        size: points.map((point) => (isRaised(point, scale) ? 7 : 4)),
        symbol: points.map((point) => (isRaised(point, scale) ? "circle-open" : "circle")),
        color: colour,
      },
      customdata: points.map((point) => point && meaning(point, scale)),
      hovertemplate:
        `<b>${plain(unit.label)}</b><br>step ${looks[0].step}, ` +
        `${DATA.kinds[quantity] === "groups" ? "" : "block "}%{x}<br>%{customdata}<extra></extra>`,
    },
  ];
  if (looks.length > 1) {
    lines.unshift(
      band(
        known.map(({ at }) => x[at]),
        known.map(({ point }) => Math.max(point.low, scale.floor ?? -Infinity)),
        known.map(({ point }) => Math.max(point.high, scale.floor ?? -Infinity)),
        colour,
      ),
    );
  }
  return lines;
}

const profileRange = ({ values, log }) => padded(log ? values.map(Math.log10) : values);

function padded(values) {
  if (!values.length) return null;
  const [low, high] = [least(values), most(values)];
  const room = 0.06 * (high - low) || 0.05 * Math.abs(high) || 1;
  return [low - room, high + room];
}

// One heatmap per unit; all share both axes and the range of colours.
function drawHeatmaps() {
  const quantity = view.quantity;
  if (!quantity) return draw("heatmap-chart", [], {}, "No run has looked inside its layers yet.");
  const all = units().filter((unit) => unit.runs.some((run) => run.probes[quantity]?.steps.length));
  const rows = places(quantity, all);
  const steps = [...new Set(all.flatMap((unit) => unit.runs.flatMap((run) => run.probes[quantity]?.steps ?? [])))].sort(
    (a, b) => a - b,
  );
  const scale = scaleOf(all, quantity);
  const { log } = scale;
  const colourOf = (point) => point && (log ? Math.log10(heightOf(point, scale)) : point.mean);
  const tiles = all.map((unit) => ({
    unit,
    cells: rows.map((place) => steps.map((step) => cell(unit, quantity, place, step, log))),
  }));
  const known = finite(tiles.flatMap((tile) => tile.cells.flat(1).map(colourOf)));
  const raised = tiles.some((tile) => tile.cells.flat(1).some((point) => isRaised(point, scale)));
  $("heatmaps-how").textContent =
    `${titleOf(quantity)}${log ? ", logarithmic colours" : ""}. Columns are the looks inside of all runs, ` +
    "not to scale in time; between its own looks a run shows the one before. Block 1 is next to the embedding." +
    (view.single ? "" : log ? " Geometric mean over seeds." : " Mean over seeds.") +
    (raised ? " A 0 has the colour of the smallest value above it." : "") +
    " A ring marks the layer and step of a diagnosis.";
  smallMultiples(
    "heatmap-chart",
    tiles.map(({ unit, cells }) => ({
      unit,
      x: steps.map((_, at) => at),
      y: rows,
      z: cells.map((row) => row.map(colourOf)),
      text: cells.map((row, place) => row.map((point, at) => heatText(unit, rows[place], steps[at], point, scale))),
      rings: unit.runs
        .filter((run) => run.bad_quantity === quantity && run.bad_layer !== null)
        .map((run) => [firstFrom(steps, run.bad_step), run.bad_layer]),
    })),
    known,
    log,
    {
      xTitle: "step",
      yTitle: DATA.kinds[quantity] === "groups" ? "" : "block",
      xTicks: ticks(steps),
      categories: DATA.kinds[quantity] === "groups",
    },
  );
}

function cell(unit, quantity, place, step, log) {
  const looks = unit.runs
    .filter((run) => (run.probes[quantity]?.steps.at(-1) ?? -1) >= step)
    .map((run) => lookInside(run, quantity, step));
  return summarise(
    looks.map((look) => (look ? valueAt(look.value, place) : null)),
    log,
  );
}

const heatText = (unit, place, step, point, scale) =>
  `<b>${plain(unit.label)}</b><br>step ${step}, ${typeof place === "number" ? "block " : ""}${plain(place)}<br>` +
  (point ? meaning(point, scale) : "none");

function ticks(steps) {
  const every = Math.max(1, Math.ceil(steps.length / 5));
  const shown = steps.map((_, at) => at).filter((at) => at % every === 0);
  return { tickvals: shown, ticktext: shown.map((at) => String(steps[at])) };
}

// A diagnosis may be dated between two looks inside: the first one at or after it shows it.
function firstFrom(steps, step) {
  const at = steps.findIndex((own) => own >= (step ?? Infinity));
  return at < 0 ? steps.length - 1 : at;
}

// The page turned to what a diagnosis speaks of.
function lookAt(run) {
  view.quantity = run.bad_quantity;
  $("quantity").value = run.bad_quantity;
  view.stepAt = firstFrom(STEPS, run.bad_step);
  $("step").value = view.stepAt;
  drawProfiles();
  drawHeatmaps();
  drawMatrices();
  $("heatmaps").scrollIntoView({ behavior: "instant" });
  $("quantity").focus({ preventScroll: true });
}
