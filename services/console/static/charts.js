// Charts of canvases that carry their data; Tabler's colours, anew when light and dark change.
"use strict";

(() => {
  const drawn = new Map();

  // Variables may hold mixtures of others, which a canvas does not understand: ask what they become.
  const colour = (name) => {
    const probe = document.body.appendChild(document.createElement("span"));
    probe.hidden = true;
    probe.style.color = `var(--tblr-${name})`;
    const found = window.getComputedStyle(probe).color;
    probe.remove();
    return found;
  };

  const draw = (canvas) => {
    const data = JSON.parse(canvas.dataset.chart);
    const round = data.kind === "doughnut";
    const colours = data.colours.map(colour);
    const text = colour("secondary");
    const axis = { stacked: Boolean(data.stacked), ticks: { color: text, precision: 0 } };
    drawn.get(canvas)?.destroy();
    drawn.set(
      canvas,
      new window.Chart(canvas, {
        type: data.kind,
        data: {
          labels: data.labels,
          datasets: data.series.map((one, place) => ({
            ...one,
            backgroundColor: round ? colours : colours[place],
            borderWidth: 0,
          })),
        },
        options: {
          animation: false,
          maintainAspectRatio: false,
          cutout: round ? "65%" : undefined,
          plugins: {
            legend: { display: !round, position: "bottom", labels: { color: text, boxWidth: 12 } },
          },
          scales: round
            ? {}
            : {
                x: { ...axis, grid: { display: false } },
                y: { ...axis, beginAtZero: true, grid: { color: colour("border-color") } },
              },
        },
      }),
    );
  };

  const drawAll = () => {
    for (const [canvas, chart] of drawn) {
      if (!canvas.isConnected) {
        chart.destroy();
        drawn.delete(canvas);
      }
    }
    document.querySelectorAll("canvas[data-chart]").forEach(draw);
  };

  drawAll();
  document.addEventListener("htmx:afterSettle", drawAll);
  document.addEventListener("muster:theme", drawAll);
})();
