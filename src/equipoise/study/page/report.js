"use strict";
(() => {
  const payload = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)");
  const config = {
    displaylogo: false,
    responsive: true,
    displayModeBar: coarse.matches ? false : "hover",
    modeBarButtonsToRemove: ["lasso2d", "select2d"],
  };
  let printing = false;

  /* Sorting: a column's cells carry their value in data-value; empty values stay at the end. */
  const sortBy = (button) => {
    const header = button.closest("th");
    const table = button.closest("table");
    const body = table.tBodies[0];
    const numeric = header.dataset.kind === "number";
    const current = header.getAttribute("aria-sort");
    const first = numeric && header.dataset.first !== "ascending" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = current === first ? other : first;
    for (const th of header.parentNode.cells) th.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[header.cellIndex].dataset.value ?? "";
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y));
    };
    body.append(...[...body.rows].sort(compare));
  };
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sortBy(button));
  }

  /* Figures come in the colours of the light page; on a dark one every colour is exchanged. */
  const themed = (value, key = "") => {
    if (Array.isArray(value)) return value.map((item) => themed(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, k)]));
    }
    const paint = typeof value === "string" && /color/i.test(key);
    return paint && dark.matches && !printing ? payload.dark[value] ?? value : value;
  };

  const choice = (id) => document.getElementById(id)?.value;
  const roles = payload.roles;
  const colourOf = (meta) => {
    if (meta.label === choice("highlight")) return roles.leader;
    if (meta.kind === "fixed") return roles.fixed;
    return meta.label === roles.baselineRule ? roles.baseline : roles.other;
  };

  const raise = (figure, label) => {
    const rank = ({ meta }) => (meta.label === label ? 2 : meta.label === roles.baselineRule ? 1 : 0);
    figure.data.sort((a, b) => rank(a) - rank(b));
  };

  const shapeFront = (figure) => {
    const { axes, values } = payload.front;
    const x = Number(choice("axis-x") ?? 0);
    const y = Number(choice("axis-y") ?? Math.min(1, axes.length - 1));
    figure.data.forEach((trace, i) => {
      if (trace.meta.kind === "line") return;
      trace.x = values[i].map((row) => row[x]);
      trace.y = values[i].map((row) => row[y]);
      trace.marker.color = colourOf(trace.meta);
      const quiet = trace.marker.color === roles.other ? 0.25 : 0.55;
      trace.marker.opacity = trace.marker.line.width.map((width) => (width ? 1 : quiet));
    });
    raise(figure, choice("highlight"));
    const all = choice("window") === "all";
    [["xaxis", x], ["yaxis", y]].forEach(([name, k]) => {
      const axis = figure.layout[name];
      axis.title.text = axes[k].title;
      const reversed = axes[k].range[0] > axes[k].range[1];
      if (all) { delete axis.range; axis.autorange = reversed ? "reversed" : true; }
      else { axis.range = axes[k].range; }
    });
    const line = (base, k) => axes[k].reference === null ? [] : [base(axes[k].reference)];
    const style = { type: "line", layer: "below", line: { color: roles.other, width: 1, dash: "dash" } };
    figure.layout.shapes = [
      ...line((v) => ({ ...style, xref: "x", yref: "paper", x0: v, x1: v, y0: 0, y1: 1 }), x),
      ...line((v) => ({ ...style, xref: "paper", yref: "y", x0: 0, x1: 1, y0: v, y1: v }), y),
    ];
    figure.layout.dragmode = coarse.matches ? false : "zoom";
  };
  const shapeCurves = (figure) => {
    const rule = choice("rule");
    figure.data.forEach((trace) => {
      const picked = trace.meta.label === rule;
      const base = trace.meta.label === roles.baselineRule;
      trace.line.color = picked ? roles.leader : base ? roles.baseline : roles.other;
      trace.line.width = picked ? 3 : base ? 2 : 1;
    });
    raise(figure, rule);
    figure.layout.dragmode = coarse.matches ? false : "zoom";
  };
  const sources = {
    comparisons: () => payload.comparisons,
    profile: () => payload.profile,
    fronts: () => payload.fronts,
    front: () => payload.front?.figure,
    share: () => payload.share,
    norm_ratio: () => payload.norm_ratio,
    weights: () => payload.weights[choice("rule")],
    cosines: () => payload.cosines[choice("rule")],
  };
  const shapes = { front: shapeFront, share: shapeCurves, norm_ratio: shapeCurves };

  const draw = (box) => {
    const source = sources[box.dataset.figure]();
    const empty = box.parentNode.querySelector(".empty");
    if (empty) empty.hidden = Boolean(source);
    box.hidden = !source;
    if (!source) return;
    const figure = structuredClone(source);
    figure.layout.dragmode = false;
    if (shapes[box.dataset.figure]) shapes[box.dataset.figure](figure);
    const sheet = { width: box.closest(".pair") ? 320 : 660, height: 0.8 * figure.layout.height };
    const wide = printing ? sheet : {};
    const layout = { ...themed(figure.layout), ...wide, autosize: !printing };
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: themed(roles.paper, "color"), bordercolor: themed(roles.other, "color") };
    layout.hoverlabel.font = { ...layout.hoverlabel.font, color: themed(roles.ink, "color") };
    Plotly.react(box, themed(figure.data), layout, config);
  };
  const boxes = [...document.querySelectorAll("[data-figure]")];
  const drawAll = (names) => boxes.filter((b) => !names || names.includes(b.dataset.figure)).forEach(draw);

  for (const select of document.querySelectorAll("select[data-draws]")) {
    select.addEventListener("change", () => drawAll(select.dataset.draws.split(" ")));
  }
  dark.addEventListener("change", () => drawAll());
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  drawAll();
  document.documentElement.dataset.ready = "yes";
})();
