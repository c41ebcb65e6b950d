// The controls, and the first drawing.

function drawAll() {
  drawTable();
  drawLegend();
  drawTraining();
  drawProfiles();
  drawHeatmaps();
  drawMatrices();
  drawOther();
  drawThroughput();
}

function drawFilters() {
  $("filters").replaceChildren(
    ...FILTERS.map((filter) =>
      make(
        "fieldset",
        { "data-filter": filter.key },
        make("legend", {}, filter.title),
        ...filter.values.map((value) => {
          const box = make("input", {
            type: "checkbox",
            value,
            onchange: () => {
              const hidden = view.hidden.get(filter.key) ?? new Set();
              if (box.checked) hidden.delete(value);
              else hidden.add(value);
              view.hidden.set(filter.key, hidden);
              drawAll();
            },
          });
          box.checked = !view.hidden.get(filter.key)?.has(value);
          return make("label", {}, box, make("span", {}, value));
        }),
      ),
    ),
  );
}

function options(id, names, chosen, then) {
  $(id).replaceChildren(
    ...names.map((name) =>
      make("option", { value: name }, titleOf(name) === name ? name : `${titleOf(name)} · ${name}`),
    ),
  );
  if (chosen) $(id).value = chosen;
  $(id).onchange = () => then($(id).value);
}

function notes() {
  const said = [
    "Training: thin lines are every step, thick ones an exponential moving average over a fortieth of the run; " +
      "rings are validation. " +
      "Bands run from the smallest to the largest seed. Runs that were lost or have not ended are in no mean.",
  ];
  const { thinned } = DATA;
  if (thinned) {
    said.push(
      `Downsampled: the longest run has ${thinned.longest} steps; of a curve at most ${thinned.points} are kept, ` +
        `among them the smallest and the largest of every stretch, so that no spike is lost. ` +
        `Averages are kept every ${thinned.every} steps.`,
    );
  }
  $("notes").replaceChildren(...said.map((text) => make("p", {}, text)));
  $("training-how").textContent =
    "Triangle: a spike begins, with a bar until it recovered (hollow: it did not). Cross: first bad step. " +
    "Drag to zoom, double-click to reset.";
}

// On paper: light, and as wide as a page, which charts do not notice by themselves.
let themeBefore = false;
function printed(begins) {
  if (begins) themeBefore = isDark();
  root.classList.toggle("printing", begins);
  setTheme(!begins && themeBefore);
  drawAll();
  for (const chart of document.querySelectorAll(".js-plotly-plot")) Plotly.Plots.resize(chart);
}

for (const box of document.querySelectorAll("[name=seeds]")) {
  box.onchange = () => {
    view.single = box.value === "single";
    drawAll();
  };
}
for (const box of document.querySelectorAll("[name=loss-axis]")) {
  box.onchange = () => {
    view.lossAxis = box.value;
    drawTraining();
  };
}
$("theme").onclick = () => {
  setTheme(!isDark());
  drawAll();
};
prefersDark.addEventListener("change", (event) => {
  setTheme(event.matches);
  drawAll();
});
window.addEventListener("beforeprint", () => printed(true));
window.addEventListener("afterprint", () => printed(false));
window.addEventListener("resize", () => {
  drawHeatmaps();
  drawMatrices();
});

view.stepAt = Math.max(0, STEPS.length - 1);
view.matrix = MATRICES[0] ?? null;
view.other = OTHERS.find((name) => name === "dead_gradients") ?? OTHERS[0] ?? null;
view.quantity ??= LAYERED[0] ?? null;
$("step").max = Math.max(0, STEPS.length - 1);
$("step").value = view.stepAt;
$("step").oninput = () => {
  view.stepAt = Number($("step").value);
  drawProfiles();
  drawMatrices();
};
options("quantity", LAYERED, view.quantity, (name) => {
  view.quantity = name;
  drawProfiles();
  drawHeatmaps();
});
options("matrix", MATRICES, view.matrix, (name) => {
  view.matrix = name;
  drawMatrices();
});
options("other", OTHERS, view.other, (name) => {
  view.other = name;
  drawOther();
});
$("profiles").append(
  ...DATA.first.map((name) =>
    make(
      "div",
      { class: "card", "data-quantity": name },
      make(
        "button",
        {
          type: "button",
          title: `${name}: show it over the steps as well`,
          onclick: () => {
            view.quantity = name;
            $("quantity").value = name;
            drawProfiles();
            drawHeatmaps();
          },
        },
        titleOf(name),
      ),
      make("div", { class: "chart" }),
    ),
  ),
);
$("depth").hidden = !LAYERED.length;
$("subtitle").textContent += ` · ${DATA.runs.length} runs of ${DATA.treatments.length} treatments`;

setTheme(prefersDark.matches);
drawFilters();
notes();
drawAll();
root.dataset.ready = "true";
