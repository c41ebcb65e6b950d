// Small multiples of heatmaps, matrices between layers, further quantities, throughput.

const MATRICES = Object.keys(DATA.kinds).filter((name) => DATA.kinds[name] === "matrix");
const OTHERS = [...DATA.columns, ...Object.keys(DATA.kinds).filter((name) => DATA.kinds[name] === "number")];

// tiles: [{unit, x, y, z, text, rings}], all with the same axes; known: every value, for the one range of colours.
function smallMultiples(id, tiles, known, log, { xTitle, yTitle, xTicks = {}, categories = false, square = false }) {
  const width = $(id).clientWidth || 900;
  const columns = Math.min(tiles.length, Math.max(2, Math.floor(width / 250)));
  const rows = Math.ceil(tiles.length / columns);
  const height = square ? 230 : Math.max(150, Math.min(240, 34 + 13 * (tiles[0]?.y.length ?? 0)));
  const [left, right, top, bottom] = [categories ? 84 : 48, 84, 26, 46];
  const [total, inner] = [rows * height + top + bottom, width - left - right];
  const plan = {
    height: total,
    margin: { l: left, r: right, t: top, b: bottom },
    annotations: [],
    coloraxis: colours(known, log, total),
  };
  const traces = tiles.flatMap((tile, at) => {
    const [row, column, suffix] = [Math.floor(at / columns), at % columns, at ? String(at + 1) : ""];
    const [gapX, gapY] = [10 / inner, 30 / (rows * height)];
    const [wide, high] = [(1 + gapX) / columns, (1 + gapY) / rows];
    const domainX = [column * wide, (column + 1) * wide - gapX];
    const domainY = [Math.max(0, 1 - (row + 1) * high + gapY), 1 - row * high];
    const lowest = at + columns >= tiles.length;
    const shared = (name) => (at ? { matches: name } : {});
    plan[`xaxis${suffix}`] = axis({
      domain: domainX,
      anchor: `y${suffix}`,
      showgrid: false,
      showticklabels: lowest,
      title: { text: lowest ? xTitle : "", standoff: 4 },
      ...xTicks,
      ...shared("x"),
    });
    plan[`yaxis${suffix}`] = axis({
      domain: domainY,
      anchor: `x${suffix}`,
      showgrid: false,
      showticklabels: column === 0,
      title: { text: column === 0 ? yTitle : "", standoff: 4 },
      nticks: 6,
      ...(categories ? { type: "category" } : {}),
      ...shared("y"),
    });
    plan.annotations.push({
      text: `<b>${plain(shortened(tile.unit.label, inner / columns))}</b>`,
      xref: "paper",
      yref: "paper",
      x: domainX[0],
      y: domainY[1],
      xanchor: "left",
      yanchor: "bottom",
      showarrow: false,
      font: { size: 12, color: ink(tile.unit.treatment.colour) },
    });
    const axes = { xaxis: `x${suffix}`, yaxis: `y${suffix}` };
    const rings = (tile.rings ?? []).length
      ? [
          {
            ...axes,
            x: tile.rings.map((ring) => ring[0]),
            y: tile.rings.map((ring) => ring[1]),
            mode: "markers",
            hoverinfo: "skip",
            marker: { symbol: "circle-open", size: 14, color: "#ff4d4f", line: { width: 3 } },
          },
        ]
      : [];
    return [
      {
        ...axes,
        type: "heatmap",
        x: tile.x,
        y: tile.y,
        z: tile.z,
        text: tile.text,
        hovertemplate: "%{text}<extra></extra>",
        coloraxis: "coloraxis",
        hoverongaps: false,
        xgap: 0.5,
        ygap: 0.5,
      },
      ...rings,
    ];
  });
  draw(id, traces, plan);
}

// Bold letters of the tiles' titles are about eight pixels wide.
const shortened = (text, width) => (text.length * 8 > width ? `${text.slice(0, Math.floor(width / 8) - 1)}…` : text);

// One range for all tiles; what has both signs is coloured around zero.
function colours(known, log, height) {
  const [low, high] = [least(known), most(known)];
  const signed = !log && low < 0 && high > 0;
  const size = Math.max(Math.abs(low), Math.abs(high));
  return {
    colorscale: signed ? "RdBu" : "Viridis",
    cmin: signed ? -size : low,
    cmax: signed ? size : high === low ? low + 1 : high,
    colorbar: {
      thickness: 12,
      len: Math.min(1, 260 / height),
      y: 1,
      yanchor: "top",
      outlinewidth: 0,
      x: 1.01,
      tickfont: { size: 11 },
      ...(log ? decades(low, high) : { nticks: 6 }),
    },
  };
}

function decades(low, high) {
  const whole = [];
  for (let power = Math.ceil(low); power <= Math.floor(high); power += Math.max(1, Math.round((high - low) / 6)))
    whole.push(power);
  const values = whole.length > 1 ? whole : [low, (low + high) / 2, high];
  return {
    tickvals: values,
    ticktext: values.map((value) =>
      Number.isInteger(value)
        ? Math.abs(value) < 4
          ? String(Number((10 ** value).toPrecision(3)))
          : `10<sup>${value}</sup>`
        : number(10 ** value, 2),
    ),
  };
}

function drawMatrices() {
  $("matrices").hidden = !MATRICES.length;
  const quantity = view.matrix;
  if (!quantity) return;
  const { rows, columns } = DATA.matrices[quantity];
  const tiles = units().flatMap((unit) => {
    const looks = unit.runs.map((run) => lookInside(run, quantity, STEPS[view.stepAt])).filter(Boolean);
    if (!looks.length) return [];
    const z = looks[0].value.map((row, i) =>
      row.map(
        (_, j) =>
          summarise(
            looks.map((look) => look.value[i]?.[j] ?? null),
            false,
          )?.mean ?? null,
      ),
    );
    return [
      {
        unit,
        z,
        y: z.map((_, i) => i + rows[1]),
        x: z[0].map((_, j) => j + columns[1]),
        text: z.map((row, i) =>
          row.map(
            (value, j) =>
              `<b>${plain(unit.label)}</b><br>step ${looks[0].step}<br>${rows[0]} = ${i + rows[1]}<br>` +
              `${columns[0]} = ${j + columns[1]}<br>${number(value)}`,
          ),
        ),
      },
    ];
  });
  smallMultiples("matrix-chart", tiles, finite(tiles.flatMap((tile) => tile.z.flat())), false, {
    xTitle: columns[0],
    yTitle: rows[0],
    square: true,
  });
}

function drawOther() {
  const quantity = view.other;
  $("others").hidden = !OTHERS.length;
  if (!quantity) return;
  const curve = (run) => {
    if (run.more[quantity]) return run.more[quantity];
    const { steps = [], values = [] } = run.probes[quantity] ?? {};
    return [steps, values];
  };
  const everyStep =
    DATA.columns.includes(quantity) && DATA.runs.some((run) => (run.more[quantity]?.[0].length ?? 0) > 100);
  // Thinned curves keep other steps of every seed, so they have no mean: each is drawn.
  const traces = units().flatMap((unit) =>
    everyStep
      ? unit.runs.flatMap((run) =>
          seriesOf({ ...unit, runs: [run] }, [curve(run)], false, plain(titleOf(quantity)), {}, { width: 1.2 }),
        )
      : seriesOf(unit, unit.runs.map(curve), false, plain(titleOf(quantity)), {}).map((trace) =>
          trace.fill ? trace : { ...trace, mode: "lines+markers", marker: { size: 4, color: trace.line.color } },
        ),
  );
  draw("other-chart", traces, { height: 280, xaxis: axis({ title: { text: "step", standoff: 6 } }), yaxis: axis() });
}

function drawThroughput() {
  const shown = DATA.treatments
    .map((treatment, number) => ({
      treatment,
      runs: shownRuns().filter((run) => run.treatment === number && run.speed !== null),
    }))
    .filter((entry) => entry.runs.length)
    .reverse();
  const traces = shown.map(({ treatment, runs }, at) => ({
    x: runs.map((run) => run.speed),
    y: runs.map(() => at),
    mode: "markers",
    marker: { size: 9, color: translucent(ink(treatment.colour), 0.75), line: { color: css("ground"), width: 1 } },
    text: runs.map((run) => plain(labelOf(run))),
    hovertemplate: "<b>%{text}</b><br>%{x:,.0f} tokens/s<extra></extra>",
  }));
  draw(
    "throughput-chart",
    traces,
    {
      height: 70 + 24 * shown.length,
      margin: { l: 10, r: 16, t: 6, b: 44 },
      xaxis: axis({ title: { text: "tokens per second", standoff: 6 }, rangemode: "tozero", tickformat: ",d" }),
      yaxis: axis({
        tickvals: shown.map((_, at) => at),
        ticktext: shown.map((entry) => plain(entry.treatment.label)),
        range: [-0.6, shown.length - 0.4],
      }),
    },
    "No run that is shown has measured its speed yet.",
  );
}
