// Lines over time, by uPlot.

import {h} from "./dom.js";

const hour = (at) => new Date(at * 1000).toISOString().slice(11, 19);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Returns a chart that `update(data)` fills; data is [times, values, values, …]. */
export function chart(title, series, write, signal) {
  const box = h("div", {class: "chart"});
  const note = h("p", {class: "soft"}, "No data yet. The gateway takes a sample every few seconds.");
  const figure = h("figure", {}, h("figcaption", {}, title), note, box);
  let plot = null;
  let latest = null;
  const options = () => ({
    width: Math.max(200, box.clientWidth), height: 170, padding: [8, 26, 0, 0],
    cursor: {points: {size: 6}}, legend: {live: true},
    scales: {x: {time: true}, y: {range: (_, __, high) => [0, high > 0 ? high * 1.1 : 1]}},
    axes: [axis({values: (_, ticks) => ticks.map(hour), space: 70}), axis({size: 62, values: (_, ticks) => ticks.map(write)})],
    series: [{label: "UTC", value: (_, at) => (at === null ? "–" : hour(at))}, ...series.map((one) => ({label: one.label, stroke: colour(one.colour), fill: one.fill && colour(one.fill), width: 1.5, spanGaps: false, points: {show: false}, value: (_, held) => (held === null ? "–" : write(held))}))],
  });
  const axis = (more) => ({stroke: colour("--soft"), grid: {stroke: colour("--line"), width: 1}, ticks: {stroke: colour("--line"), width: 1}, font: "12px system-ui, sans-serif", ...more});
  const build = () => {
    plot?.destroy();
    note.hidden = latest !== null;
    plot = latest && new uPlot(options(), latest, box);
  };
  const sizes = new ResizeObserver(() => plot?.setSize({width: Math.max(200, box.clientWidth), height: 170}));
  sizes.observe(box);
  window.addEventListener("theme", build, {signal});
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build, {signal});
  signal.addEventListener("abort", () => { sizes.disconnect(); plot?.destroy(); });
  figure.update = (data) => {
    latest = data[0].length > 1 ? data : null; // one sample is no line
    if (plot && latest) plot.setData(latest);
    else build();
  };
  return figure;
}
