// Draws the figures of the page in its colours, and again in the others when the reader's scheme changes.
const figures = JSON.parse(document.getElementById("figures").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line") };
  return {
    font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 12 },
    axis,
    hoverlabel: { bgcolor: colour("--raised"), font: { color: colour("--ink") }, bordercolor: colour("--line") },
  };
}

function layout(figure) {
  const { font, axis, hoverlabel } = colours();
  return {
    ...figure.layout,
    font,
    xaxis: { ...figure.layout.xaxis, ...axis },
    yaxis: { ...figure.layout.yaxis, ...axis },
    hoverlabel: { ...figure.layout.hoverlabel, ...hoverlabel },
  };
}

function draw() {
  for (const [id, figure] of Object.entries(figures)) {
    Plotly.react(id, figure.data, layout(figure), { responsive: true, displayModeBar: false });
  }
}

draw();
// On paper, columns are narrower than on the screen, and always light.
addEventListener("beforeprint", () => Object.keys(figures).forEach((id) => Plotly.Plots.resize(id)));
dark.addEventListener("change", draw);
