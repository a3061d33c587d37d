"use strict";
// The page is complete without this script; it lets one move over the plots and choose an image.

// Light and dark: follow the system until the button is used.
const root = document.documentElement;
const button = document.getElementById("theme");
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
button.hidden = false;
button.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; });

// Plots
const thin = "\u202f";
const usual = 36 / 255;

function value(series, x) {
  const xs = series.x, ys = series.y, last = xs.length - 1;
  if (x < xs[0] || x > xs[last]) return null;
  let i = 0; // the last value known at x
  while (i < last && xs[i + 1] <= x) i++;
  return ys[i];
}

function text(plot, y) {
  if (y === null) return "–";
  return plot.percent ? (100 * y).toFixed(1) + thin + "%" : String(Number(y.toPrecision(4)));
}

function explore(box) {
  const plot = JSON.parse(box.querySelector("script").textContent);
  const place = box.closest("figure .multiple, figure");
  const at = place.querySelector(".at");
  const stops = [...new Set(plot.series.flatMap(s => s.x))].sort((a, b) => a - b);
  const marks = [...new Set(plot.series.filter(s => s.style !== "proved").flatMap(s => s.x))].sort((a, b) => a - b);
  const nearest = (list, x) => list.reduce((best, s) => Math.abs(s - x) < Math.abs(best - x) ? s : best);
  let now = nearest(stops, plot.cursor);

  function show(x) {
    now = x;
    at.textContent = Math.abs(x - usual) < 1e-5 ? "36/255" : String(Number(x.toPrecision(4)));
    const found = plot.series.map(s => value(s, x));
    const said = found.map(y => text(plot, y));
    said.forEach((words, i) => { place.querySelector(`[data-series="${i}"]`).textContent = words; });
    for (const svg of box.querySelectorAll("svg")) {
      const d = svg.dataset, span = (a, b, [low, high], v) => +a + (b - a) * (v - low) / (high - low);
      const px = span(d.left, d.right, plot.x, x);
      const line = svg.querySelector(".cursor line");
      line.setAttribute("x1", px);
      line.setAttribute("x2", px);
      svg.querySelectorAll(".cursor circle").forEach((dot, i) => {
        dot.setAttribute("visibility", found[i] === null ? "hidden" : "visible");
        dot.setAttribute("cx", px);
        if (found[i] !== null) dot.setAttribute("cy", span(d.bottom, d.top, plot.y, found[i]));
      });
    }
    box.setAttribute("aria-valuenow", x);
    box.setAttribute("aria-valuetext", `${at.textContent}: ${said.join(", ")}`);
  }

  function move(event) {
    const svg = [...box.querySelectorAll("svg")].find(s => s.getBoundingClientRect().width > 0);
    const rect = svg.getBoundingClientRect(), d = svg.dataset;
    const px = (event.clientX - rect.left) * svg.viewBox.baseVal.width / rect.width;
    const x = plot.x[0] + (plot.x[1] - plot.x[0]) * (px - d.left) / (d.right - d.left);
    const mark = nearest(marks, x); // near a measured point, read that point
    const close = Math.abs(mark - x) < 0.006 * (plot.x[1] - plot.x[0]);
    show(close ? mark : nearest(stops, x));
  }

  box.addEventListener("pointermove", move);
  box.addEventListener("pointerdown", move);
  box.addEventListener("keydown", event => {
    const step = Math.max(1, Math.round(stops.length / 100)), i = stops.indexOf(now), last = stops.length - 1;
    const target = { ArrowRight: i + step, ArrowUp: i + step, ArrowLeft: i - step, ArrowDown: i - step, Home: 0, End: last }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    show(stops[Math.min(last, Math.max(0, target))]);
  });
}
document.querySelectorAll(".plot").forEach(explore);

// Images
const thumbs = document.getElementById("thumbs");
if (thumbs) {
  const buttons = [...thumbs.children];
  const choose = chosen => {
    for (const b of buttons) {
      const on = b === chosen, card = document.getElementById("card-" + b.dataset.card);
      b.setAttribute("aria-pressed", on);
      b.tabIndex = on ? 0 : -1;
      card.hidden = !on;
      if (on) card.querySelector(".large").src = b.querySelector("img").src;
    }
  };
  thumbs.addEventListener("click", event => {
    const b = event.target.closest("button");
    if (b) choose(b);
  });
  thumbs.addEventListener("keydown", event => {
    const all = [...thumbs.children], i = all.indexOf(document.activeElement);
    const grid = getComputedStyle(thumbs), count = tracks => tracks.split(" ").length;
    const strip = grid.gridAutoFlow.includes("column"); // on narrow screens the images run down, then right
    const right = strip ? count(grid.gridTemplateRows) : 1, down = strip ? 1 : count(grid.gridTemplateColumns);
    const by = { ArrowRight: right, ArrowLeft: -right, ArrowDown: down, ArrowUp: -down }[event.key];
    if (by === undefined || i < 0 || !all[i + by]) return;
    event.preventDefault();
    choose(all[i + by]);
    all[i + by].focus();
  });
  const order = document.getElementById("sort");
  order.closest(".sort").hidden = false;
  order.addEventListener("change", () => {
    const key = order.value;
    buttons.sort((a, b) => a.dataset[key] - b.dataset[key] || a.dataset.number - b.dataset.number);
    thumbs.append(...buttons);
    choose(buttons[0]);
  });
}
