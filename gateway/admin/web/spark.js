// Small charts without axes: the shape of a figure over time.

import {draw} from "./dom.js";

const [WIDE, HIGH] = [120, 28];

/** Returns a line with its area; `points` are the counts of equal times, the oldest first. */
export function sparkline(points, tone = "accent") {
  const most = Math.max(1, ...points);
  const step = WIDE / Math.max(1, points.length - 1);
  const places = points.map((count, i) => `${(i * step).toFixed(1)} ${(HIGH - 1 - (count / most) * (HIGH - 3)).toFixed(1)}`);
  const line = `M${places.join("L")}`;
  return draw("svg", {class: `spark ${tone}`, viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", "aria-hidden": "true"},
    draw("path", {class: "area", d: `${line}L${WIDE} ${HIGH}L0 ${HIGH}Z`}),
    draw("path", {class: "line", d: line}));
}
