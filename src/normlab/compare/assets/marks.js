// What stands out in the training curves: spikes, the first bad step, levels, and how far the loss axis reaches.

// A triangle where a spike begins, hollow where it did not recover, and a bar for as long as the recovery took.
function spikes(run, name) {
  const events = run.events[name].filter((event) => event.top !== null);
  if (!events.length) return [];
  const colour = ink(treatmentOf(run).colour);
  const said = (event) =>
    (event.recovery === null ? "not recovered" : `recovered after ${event.recovery} steps`) +
    `, amplitude ${number(event.amplitude) || "infinite"}`;
  return [
    {
      x: events.flatMap((event) => [event.start, event.start + (event.recovery ?? 0), null]),
      y: events.flatMap((event) => [event.top, event.top, null]),
      yaxis: ROWS[name],
      mode: "lines",
      line: { color: colour, width: 2.5 },
      hoverinfo: "skip",
    },
    {
      x: events.map((event) => event.start),
      y: events.map((event) => event.top),
      yaxis: ROWS[name],
      mode: "markers",
      customdata: events.map(said),
      marker: {
        symbol: events.map((event) => (event.recovery === null ? "triangle-down-open" : "triangle-down")),
        color: colour,
        size: 9,
        line: { color: colour, width: 1.5 },
      },
      hovertemplate: hover(labelOf(run), name === "loss" ? "loss spike" : "gradient spike", "<br>%{customdata}"),
    },
  ];
}

// A cross at the first bad step of a run that failed: on its curve, and where that left the panel, at its upper edge.
function lost(run) {
  if (run.averaged && run.first_bad_step === null) return [];
  if (GOING.includes(run.verdict) || !run.curves.loss) return [];
  const [steps, values] = run.curves.loss;
  const at = run.first_bad_step === null ? steps.length - 1 : steps.findLastIndex((step) => step <= run.first_bad_step);
  if (at < 0) return [];
  const ceiling = lossCeiling();
  return [
    {
      x: [steps[at]],
      y: [Math.min(values[at], ceiling)],
      mode: "markers",
      cliponaxis: false,
      marker: { symbol: "x", size: 10, color: ink(treatmentOf(run).colour), line: { color: css("ground"), width: 1 } },
      hovertemplate:
        `<b>${plain(labelOf(run))}</b><br>` +
        (run.first_bad_step === null ? "the last step" : `first bad step ${run.first_bad_step}`) +
        `<br>${wrapped(run.why)}<extra></extra>`,
    },
  ];
}

const wrapped = (text) => plain(text).replace(/(.{1,60})(\s|$)/g, "$1<br>");

function lossCeiling() {
  const levels = Object.values(DATA.anchors);
  return levels.length ? 1.08 * most(levels) : most(shownRuns().flatMap((run) => finite(run.smooth.loss[1])));
}

// The whole fall from the start; or its end, where the methods differ. A loss that explodes leaves the panel.
function lossRange(all) {
  const runs = all.flatMap((unit) => unit.runs);
  const late = view.lossAxis === "end";
  const values = runs.flatMap((run) => {
    const [steps, losses] = run.smooth.loss;
    const from = late ? 0.4 * (run.steps ?? run.step) : 0;
    return finite([
      ...losses.filter((_, at) => steps[at] >= from),
      ...run.val[1].filter((_, at) => run.val[0][at] >= from),
    ]);
  });
  if (!values.length) return null;
  const ceiling = lossCeiling();
  const low = least(values);
  // Of the end, the best three quarters of what is shown: one bad run must not flatten the others.
  const high = late ? values.sort((a, b) => a - b)[Math.floor(0.9 * (values.length - 1))] : Math.max(ceiling, low);
  const room = 0.06 * (high - low || 1);
  const range = [low - room, Math.min(high + room, Math.max(ceiling, low + room))];
  return view.lossAxis === "log"
    ? range.map((value, at) => Math.log10(at ? value : Math.max(low * 0.97, 1e-6)))
    : range;
}

function anchorLines(range, all) {
  const clips = [...new Set(all.flatMap((unit) => unit.runs.map((run) => run.clip)).filter((clip) => clip !== null))];
  const level = (name, value, yref) => ({ name, value, yref });
  const levels = [
    ...Object.entries(DATA.anchors).map(([name, value]) => level(name, value, "y")),
    ...clips.map((clip) => level(`clipped above ${clip}`, clip, "y2")),
  ];
  const drawn = levels.filter(
    ({ value, yref }) => yref === "y2" || !range || (view.lossAxis === "log" ? Math.log10(value) : value) <= range[1],
  );
  const place = ({ value, yref }) => (yref === "y2" || view.lossAxis === "log" ? Math.log10(value) : value);
  return {
    shapes: drawn.map(({ value, yref }) => ({
      type: "line",
      xref: "paper",
      x0: 0,
      x1: 1,
      yref,
      y0: value,
      y1: value,
      layer: "below",
      line: { color: css("faint"), width: 1, dash: "dash" },
    })),
    annotations: apart(drawn, range).map((entry) => ({
      xref: "paper",
      x: 1,
      xanchor: "left",
      yref: entry.yref,
      y: place(entry),
      yshift: entry.shift,
      text: ` ${entry.name}`,
      showarrow: false,
      font: { size: 11, color: css("faint") },
    })),
  };
}

// Names of levels that lie close together are moved apart, upwards.
function apart(levels, range) {
  const perPixel = range ? Math.abs(range[1] - range[0]) / 350 : 0;
  let last = null;
  return levels
    .slice()
    .sort((a, b) => a.value - b.value)
    .map((entry) => {
      const here = (view.lossAxis === "log" ? Math.log10(entry.value) : entry.value) / (perPixel || 1);
      const shown = last !== null && entry.yref === "y" && here - last < 14 ? last + 14 : here;
      if (entry.yref === "y") last = shown;
      return { ...entry, shift: entry.yref === "y" ? shown - here : 0 };
    });
}
