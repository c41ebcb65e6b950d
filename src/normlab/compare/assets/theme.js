// Light and dark, for the page and for every chart.

const root = document.documentElement;
const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");

function setTheme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  $("theme").textContent = dark ? "Light" : "Dark";
  $("theme").setAttribute("aria-pressed", String(dark));
}

const isDark = () => root.dataset.theme === "dark";
const css = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

// A placement's colour, lighter on a dark ground where it would vanish there.
function ink(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  if (!isDark()) return colour;
  const luminance = (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
  const share = Math.max(0, Math.min(0.72, (0.58 - luminance) * 1.25));
  return `rgb(${[r, g, b].map((channel) => Math.round(channel + share * (255 - channel))).join(",")})`;
}

const translucent = (colour, alpha) => {
  const channels = colour.startsWith("#")
    ? [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))
    : colour.match(/\d+/g);
  return `rgba(${channels.join(",")},${alpha})`;
};

const axis = (more = {}) => ({
  gridcolor: css("grid"),
  linecolor: css("line"),
  zeroline: false,
  automargin: true,
  ticks: "outside",
  ticklen: 3,
  tickcolor: css("line"),
  title: { standoff: 8 },
  exponentformat: "power",
  ...more,
});

const logAxis = (log) => (log ? { type: "log", dtick: null, minor: { showgrid: false } } : {});

function layout(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    showlegend: false,
    hovermode: "closest",
    autosize: true,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: css("text") },
    hoverlabel: {
      bgcolor: css("raised"),
      bordercolor: css("faint"),
      font: { color: css("text"), size: 12 },
      align: "left",
      namelength: -1,
    },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("faint"), activecolor: css("accent") },
    margin: { l: 64, r: 16, t: 12, b: 44 },
    ...more,
  };
}

// Draws into a chart, or says why there is nothing to draw.
function draw(id, traces, plan, nothing = "No run that is shown has this.") {
  const chart = typeof id === "string" ? $(id) : id;
  if (!traces.length) {
    Plotly.purge(chart);
    chart.replaceChildren(make("p", { class: "nothing" }, nothing));
    chart.style.height = "";
    return;
  }
  if (chart.querySelector(".nothing")) chart.replaceChildren();
  chart.style.height = `${plan.height}px`;
  Plotly.react(chart, traces, layout(plan), {
    responsive: true,
    displaylogo: false,
    displayModeBar: plan.height > 200,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  });
}

// A closed band between two curves.
const band = (x, low, high, colour, more = {}) => ({
  x: [...x, ...x.slice().reverse()],
  y: [...low, ...high.slice().reverse()],
  fill: "toself",
  fillcolor: translucent(colour, 0.16),
  line: { width: 0 },
  mode: "lines",
  hoverinfo: "skip",
  ...more,
});
