// The runs, sortable, each with what became of it; and what colours and strokes mean.

const GOING = ["running", "interrupted"];
const verdictClass = (verdict) =>
  verdict === "ok"
    ? "good"
    : GOING.includes(verdict)
      ? "going"
      : ["degraded", "stagnated"].includes(verdict)
        ? "odd"
        : "bad";

const COLUMNS = [
  { title: "Run", class: "name", of: (run) => treatmentOf(run).label, cell: nameCell },
  { title: "Seed", class: "right", of: (run) => run.seed },
  { title: "Outcome", of: (run) => run.verdict, cell: verdictCell },
  {
    title: "Val. loss",
    class: "right",
    of: (run) => run.final ?? (GOING.includes(run.verdict) ? run.latest : null),
    cell: lossCell,
  },
  { title: "Spikes", class: "right", of: (run) => run.spikes },
  { title: "Max grad", class: "right", of: (run) => run.max_grad_norm },
  {
    title: "Dead grad",
    class: "right",
    of: (run) => run.dead,
    cell: (run) => (run.dead === null ? "" : `${Math.round(100 * run.dead)}%`),
  },
  { title: "Bad step", class: "right", of: (run) => run.first_bad_step },
  {
    title: "Tokens/s",
    class: "right roomy",
    of: (run) => run.speed,
    cell: (run) => (run.speed === null ? "" : Math.round(run.speed).toLocaleString("en")),
  },
];

let sorted = { column: 3, up: true };

function drawTable() {
  const { of } = COLUMNS[sorted.column];
  const rows = DATA.runs.slice().sort((a, b) => compareCells(of(a), of(b)) * (sorted.up ? 1 : -1) || 0);
  const missing = (run) => [null, "", undefined].includes(of(run));
  rows.sort((a, b) => missing(a) - missing(b)); // what has no value stands last, whichever way
  const head = make(
    "tr",
    {},
    make("th", { class: "box" }, make("button", { type: "button", onclick: showAll, title: "show all runs" }, "Show")),
  );
  COLUMNS.forEach((column, at) => head.append(headCell(column, at)));
  $("table").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows.flatMap(tableRows)));
}

function compareCells(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a ?? "").localeCompare(String(b ?? ""), "en", { numeric: true });
}

function headCell(column, at) {
  const here = sorted.column === at;
  const button = make(
    "button",
    {
      type: "button",
      "data-column": column.title,
      onclick: () => {
        sorted = { column: at, up: here ? !sorted.up : true };
        drawTable();
        $("table").querySelector(`[data-column="${column.title}"]`).focus();
      },
    },
    column.title + (here ? (sorted.up ? " ↑" : " ↓") : ""),
  );
  return make(
    "th",
    { class: column.class, scope: "col", "aria-sort": here ? (sorted.up ? "ascending" : "descending") : "none" },
    button,
  );
}

function tableRows(run) {
  const box = make("input", {
    type: "checkbox",
    "aria-label": `show ${labelOf(run)}`,
    "data-box": run.id,
    onchange: () => {
      if (box.checked) view.hiddenRuns.delete(run.id);
      else view.hiddenRuns.add(run.id);
      drawAll();
      $("table").querySelector(`[data-box="${run.id}"]`).focus();
    },
  });
  box.checked = !view.hiddenRuns.has(run.id);
  const cells = COLUMNS.map((column) =>
    make("td", { class: column.class }, column.cell ? column.cell(run) : number(column.of(run))),
  );
  const off = isShown(run) ? "" : "off";
  const row = make("tr", { class: off, "data-run": run.name }, make("td", { class: "box" }, box), ...cells);
  if (!run.why) return [row];
  const why = make("td", { class: "why", colspan: COLUMNS.length }, ...reason(run));
  return [row, make("tr", { class: `${off} reason` }, make("td"), why)];
}

function showAll() {
  view.hiddenRuns.clear();
  view.hidden.clear();
  drawFilters();
  drawAll();
}

function nameCell(run) {
  const dot = make("span", { class: "dot" });
  dot.style.background = ink(treatmentOf(run).colour);
  return make(
    "span",
    { title: [treatmentOf(run).rest, run.name].filter(Boolean).join("\n") },
    dot,
    treatmentOf(run).label,
  );
}

function verdictCell(run) {
  const progress = GOING.includes(run.verdict) && run.steps ? ` ${run.step}/${run.steps}` : "";
  return make("span", { class: `verdict ${verdictClass(run.verdict)}` }, run.verdict + progress);
}

function lossCell(run) {
  if (run.final !== null) return run.final.toFixed(4);
  if (run.latest === null) return "";
  return make(
    "span",
    { class: "provisional", title: "the last that was measured; it is in no mean" },
    run.latest.toFixed(4),
  );
}

// The sentence, and a button that turns the page to the layer and step that it speaks of.
function reason(run) {
  const known = run.bad_quantity && ["layers", "groups"].includes(DATA.kinds[run.bad_quantity]);
  const look = known ? make("button", { type: "button", onclick: () => lookAt(run) }, "look") : null;
  return [run.why, look];
}

function drawLegend() {
  const runs = shownRuns();
  const items = DATA.treatments.map((treatment, number) => {
    const own = runs.filter((run) => run.treatment === number);
    return make(
      "li",
      { class: own.length ? null : "off", title: treatment.rest || null },
      stroke(treatment),
      make("span", {}, treatment.label),
      make("span", { class: "provisional" }, `n=${own.length}`),
    );
  });
  $("legend").replaceChildren(make("h3", {}, "Legend, best first"), make("ol", {}, ...items));
}

function stroke(treatment) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const dashes = treatment.dash === "solid" ? "" : treatment.dash.replaceAll("px", "");
  const attributes = {
    x1: 0,
    x2: 28,
    y1: 4.5,
    y2: 4.5,
    "stroke-width": 2.5,
    stroke: ink(treatment.colour),
    "stroke-dasharray": dashes,
  };
  for (const [name, value] of Object.entries(attributes)) line.setAttribute(name, value);
  svg.setAttribute("aria-hidden", "true");
  svg.append(line);
  return svg;
}
