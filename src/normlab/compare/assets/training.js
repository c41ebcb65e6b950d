// Loss, gradient norm and learning rate over the steps, one x axis for all three.

const ROWS = { loss: "y", grad_norm: "y2", lr: "y3" };

function drawTraining() {
  const all = units();
  const last = most([1, ...all.flatMap((unit) => unit.runs.map((run) => run.step))]);
  const traces = [
    ...all.flatMap((unit) => unit.runs.flatMap(rawLines)),
    ...all.flatMap((unit) => [...smoothLines(unit, "loss"), ...smoothLines(unit, "grad_norm"), ...validation(unit)]),
    ...all.flatMap((unit) => rateLine(unit)),
    ...all.flatMap((unit) =>
      unit.runs.flatMap((run) => [...spikes(run, "loss"), ...spikes(run, "grad_norm"), ...lost(run)]),
    ),
  ];
  const range = lossRange(all);
  draw(
    "training-chart",
    traces,
    {
      height: root.classList.contains("printing") ? 540 : 700,
      margin: { l: 72, r: 92, t: 8, b: 44 },
      xaxis: axis({
        title: { text: "step", standoff: 6 },
        anchor: "free",
        position: 0,
        range: [-0.012 * last, 1.012 * last],
        showspikes: true,
        spikemode: "across",
        spikethickness: 1,
        spikedash: "dot",
        spikecolor: css("faint"),
      }),
      yaxis: axis({
        domain: [0.46, 1],
        title: { text: "loss (nats/token)" },
        range,
        ...logAxis(view.lossAxis === "log"),
      }),
      yaxis2: axis({ domain: [0.16, 0.42], title: { text: "gradient norm" }, ...logAxis(true) }),
      yaxis3: axis({ domain: [0, 0.12], title: { text: "LR" }, rangemode: "tozero", nticks: 3 }),
      ...anchorLines(range, all),
    },
    "No run that is shown has a step yet.",
  );
}

const hover = (label, what, more = "", value = "%{y:.5~g}") =>
  `<b>${plain(label)}</b><br>step %{x}<br>${what} ${value}${more}<extra></extra>`;

function rawLines(run) {
  const colour = translucent(ink(treatmentOf(run).colour), 0.26);
  return ["loss", "grad_norm"]
    .filter((name) => run.curves[name])
    .map((name) => {
      const [steps, values] = run.curves[name];
      const floor = name === "grad_norm" ? least(values.filter((value) => value > 0)) : 0;
      return {
        x: steps,
        y: values.map((value) => value || floor),
        yaxis: ROWS[name],
        mode: "lines",
        line: { color: colour, width: 1 },
        customdata: values.map((value) => number(value, 5) + (value || !floor ? "" : AT_FLOOR)),
        hovertemplate: hover(labelOf(run), name === "loss" ? "loss" : "gradient norm", "", "%{customdata}"),
      };
    });
}

// The moving average of a run, or its mean over seeds with the band from the smallest to the largest.
function smoothLines(unit, name) {
  const log = name === "grad_norm";
  return seriesOf(
    unit,
    unit.runs.map((run) => run.smooth[name]),
    log,
    log ? "gradient norm, averaged" : "loss, averaged",
    { yaxis: ROWS[name] },
  );
}

function seriesOf(unit, curves, log, what, more, style = {}) {
  const colour = ink(unit.treatment.colour);
  const line = {
    color: colour,
    width: unit.runs[0]?.averaged === false ? 1.3 : 2,
    dash: unit.treatment.dash,
    ...style,
  };
  const known = curves.filter((curve) => curve && curve[0].length);
  if (!known.length) return [];
  if (known.length === 1) {
    return [
      {
        x: known[0][0],
        y: known[0][1],
        mode: "lines",
        line,
        hovertemplate: hover(unit.runs.length > 1 ? unit.label : labelOf(unit.runs[0]), what),
        ...more,
      },
    ];
  }
  const values = new Map();
  for (const [steps, ys] of known) steps.forEach((step, at) => values.set(step, [...(values.get(step) ?? []), ys[at]]));
  const points = [...values.keys()]
    .sort((a, b) => a - b)
    .map((step) => ({ step, ...summarise(values.get(step), log) }))
    .filter((point) => point.n);
  const x = points.map((point) => point.step);
  return [
    band(
      x,
      points.map((point) => point.low),
      points.map((point) => point.high),
      colour,
      more,
    ),
    {
      x,
      y: points.map((point) => point.mean),
      mode: "lines",
      line,
      customdata: points.map((point) => `${number(point.low)} to ${number(point.high)}, n=${point.n}`),
      hovertemplate: hover(unit.label, what, "<br>seeds %{customdata}"),
      ...more,
    },
  ];
}

function validation(unit) {
  const ring = { color: css("ground"), size: 6, line: { color: ink(unit.treatment.colour), width: 1.5 } };
  return seriesOf(
    unit,
    unit.runs.map((run) => run.val),
    false,
    "validation loss",
    { mode: "markers", marker: ring },
  ).filter((trace) => !trace.fill);
}

function rateLine(unit) {
  const curves = unit.runs
    .map((run) => run.curves.lr)
    .filter(Boolean)
    .slice(0, 1); // seeds share it
  return seriesOf(unit, curves, false, "LR", { yaxis: ROWS.lr }, { width: 1.5 });
}
