// Fetches the figures of a page and paints them in the page's colours; paints again when the theme changes.
// Without the button that would send a chart to Plotly's own site.
const CONFIG = { displaylogo: false, showSendToCloud: false, responsive: true, displayModeBar: "hover", modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

function colour(name) {
  // A probe resolves light-dark(): a custom property alone would be handed over unresolved.
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(--${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function axis(given) {
  return { gridcolor: colour("line"), linecolor: colour("line-strong"), zerolinecolor: colour("line"), automargin: true, ...given };
}

function painted(figure) {
  const tones = { data: colour("data"), dead: colour("line-strong") };
  const { xaxis, yaxis, ...layout } = figure.layout;
  return {
    data: figure.data.map((trace) => ({ ...trace, marker: { ...trace.marker, color: tones[trace.meta.tone] } })),
    layout: {
      ...layout,
      xaxis: axis(xaxis),
      yaxis: axis(yaxis),
      margin: { l: 50, r: 10, t: 10, b: 46 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink-2") },
      hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line-strong"), font: { color: colour("ink") } },
    },
  };
}

async function draw(place) {
  const answer = await fetch(place.dataset.plot, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  const figure = await answer.json();
  const paint = () => {
    const { data, layout } = painted(figure);
    return Plotly.react(place, data, layout, CONFIG);
  };
  await paint();
  document.addEventListener("themechange", paint);
  if (place.dataset.open) {
    place.on("plotly_click", ({ points: [point] }) => {
      location.assign(`${place.dataset.open}${point.customdata}/${place.dataset.query}`);
    });
  }
}

for (const place of document.querySelectorAll("[data-plot]")) {
  draw(place).catch((error) => {
    place.textContent = `This plot could not be drawn. ${error.message}`;
  });
}
