"use strict";
// Draws the charts of the report from the JSON in #data. Texts are data: what plotly reads as markup is escaped first.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const points = data.points, axes = data.objectives, count = points.trial.length;
  const CROWD = 30;  // members of a front above which intervals are off at first
  const element = (id) => document.getElementById(id);
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const named = (column, row) => column.names[column.at[row]];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rows = (test) => Array.from({ length: count }, (_, row) => row).filter(test);
  const inGroup = (name) => (row) => points.groups[points.group[row]] === name;
  const how = (axis, row) => points.how.names[points.how.at[axis * count + row]];
  const said = (number) => Number(number.toPrecision(3)).toString();

  // -- colours of the page, light or dark -------------------------------------------------------------------------------
  const dark = () => getComputedStyle(document.documentElement).colorScheme.includes("dark");
  const family = (name) => {
    const colour = data.colours[name] || data.other;
    return dark() && colour === "#0072B2" ? "#56B4E9" : colour;  // Okabe and Ito's other blue, which night lets through
  };
  const look = () => ({
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif", size: 13, color: css("--ink") },
    hoverlabel: { align: "left", bgcolor: css("--card"), bordercolor: css("--line"), font: { color: css("--ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--muted"), activecolor: css("--accent") },
    margin: { l: 62, r: 18, t: 28, b: 56 },
  });
  const line = () => ({ gridcolor: css("--line"), linecolor: css("--line"), zerolinecolor: css("--line"), ticks: "outside", tickcolor: css("--line") });
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

  // -- a package in words -----------------------------------------------------------------------------------------------
  function hover(row) {
    const lines = [
      `<b>trial ${points.trial[row]} · ${escaped(named(points.network, row))}</b>`,
      `${escaped(named(points.compression, row))} · ${escaped(named(points.recipe, row))}`,
      escaped(points.groups[points.group[row]]),
    ];
    axes.forEach((axis, a) => {
      const value = points.value[a][row];
      if (value === null) return;
      const exact = how(a, row) === "exact";
      const ends = exact ? "" : ` (${said(points.low[a][row])}–${said(points.high[a][row])})`;
      lines.push(`${escaped(axis.noun)} ${said(value)} ${escaped(axis.unit)}${ends} ${how(a, row)}`);
    });
    if (points.test[row] !== null) lines.push(`top-1 on test ${points.test[row]} %`);
    if (points.share[row] !== null) lines.push(`on ${Math.round(100 * points.share[row])} % of drawn fronts`);
    return lines.join("<br>");
  }

  // -- the Pareto chart -------------------------------------------------------------------------------------------------
  const front = rows(inGroup("front"));
  const known = (x, y) => (row) => points.value[x][row] !== null && points.value[y][row] !== null;
  const column = (axis, some) => some.map((row) => points.value[axis][row]);
  const symbols = (some, suffix) => some.map((row) => (data.symbols[named(points.scheme, row)] || "circle") + suffix);

  function bars(axis, some, colour) {
    return {
      type: "data", symmetric: false, thickness: 1, width: 0, color: colour,
      array: some.map((row) => points.high[axis][row] - points.value[axis][row]),
      arrayminus: some.map((row) => points.value[axis][row] - points.low[axis][row]),
    };
  }

  function scatter(x, y, some, name, marker, more) {
    return {
      type: "scatter", mode: "markers", name, x: column(x, some), y: column(y, some), text: some.map(hover),
      hovertemplate: "%{text}<extra></extra>", marker, ...more,
    };
  }

  // What nothing beats on these two axes alone, as a staircase: what can be had for each amount of the axis across.
  function staircase(x, y, some) {
    const sign = (axis) => (axes[axis].higher ? -1 : 1);
    const loss = (axis, row) => sign(axis) * points.value[axis][row];
    const sorted = [...some].sort((a, b) => loss(x, a) - loss(x, b) || loss(y, a) - loss(y, b));
    const kept = [];
    let best = Infinity;
    for (const row of sorted) if (loss(y, row) < best) { best = loss(y, row); kept.push(row); }
    return { type: "scatter", mode: "lines", name: "best on these two axes", x: column(x, kept), y: column(y, kept), hoverinfo: "skip", line: { shape: "hv", width: 1.5, color: css("--ink") } };
  }

  function traces(x, y) {
    const seen = known(x, y), found = [], grey = css("--grey");
    const muted = [["dominated", ""], ["over a limit", "-open"], ["not trained", ""]];
    if (element("others").checked) {
      for (const [group, suffix] of muted) {
        const some = rows((row) => inGroup(group)(row) && seen(row));
        const symbol = group === "not trained" ? "x-thin-open" : symbols(some, suffix);
        if (some.length) found.push(scatter(x, y, some, `${group} (${some.length})`, { symbol, size: 7, color: grey, opacity: 0.55, line: { width: 1, color: grey } }));
      }
    }
    const allowed = rows((row) => seen(row) && (inGroup("front")(row) || inGroup("dominated")(row)));
    if (allowed.length > 1) found.push(staircase(x, y, allowed));
    for (const name of points.family.names) {
      const some = front.filter((row) => named(points.family, row) === name && seen(row));
      if (!some.length) continue;
      const colour = family(name), ends = element("bars").checked ? { error_x: bars(x, some, colour), error_y: bars(y, some, colour) } : {};
      found.push(scatter(x, y, some, `front: ${escaped(name)} (${some.length})`, { symbol: symbols(some, ""), size: 11, color: colour, line: { width: 1, color: css("--paper") } }, ends));
    }
    for (const name of points.scheme.names) {  // what the shapes mean: entries of the legend without points
      if (front.some((row) => named(points.scheme, row) === name && seen(row))) found.push({ type: "scatter", mode: "markers", x: [null], y: [null], name: escaped(name), hoverinfo: "skip", marker: { symbol: data.symbols[name] || "circle", size: 9, color: css("--ink") } });
    }
    const chosen = rows((row) => points.trial[row] === data.recommended && seen(row));
    if (chosen.length) found.push({ ...scatter(x, y, chosen, "recommended", { symbol: "circle-open", size: 24, color: css("--ink"), line: { width: 2.5 } }), hoverinfo: "skip", hovertemplate: undefined });
    return found;
  }

  // Ticks of a logarithmic axis as plain numbers: 1, 2, 5 times a power of ten; more of them where little is seen.
  function ticks(low, high) {
    const steps = high / low > 2000 ? [1] : high / low > 6 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
    const found = [];
    for (let n = Math.floor(Math.log10(low)) - 1; n <= Math.ceil(Math.log10(high)); n += 1)
      for (const step of steps) if (step * 10 ** n >= low && step * 10 ** n <= high) found.push(step * 10 ** n);
    return found.length > 1 ? found : low < high ? [low, high] : [low];
  }

  function scale(axis, ends) {
    const { noun, unit, how: origin, log } = axes[axis];
    const title = `${escaped(noun)}, ${escaped(unit)}${origin && origin !== "exact" ? `, ${origin}` : ""}${log ? " (log)" : ""}`;
    return { ...line(), title: { text: title }, type: log ? "log" : "linear", automargin: true, ...(log ? marked(ends) : { range: ends }) };
  }

  const marked = ([low, high]) => { const at = ticks(low, high); return { range: [Math.log10(low), Math.log10(high)], tickvals: at, ticktext: at.map(said) }; };

  // What is to be seen of an axis: all points, the intervals that are drawn, the limit; a margin beside them.
  function extent(axis, some) {
    const values = column(axis, some);
    if (element("bars").checked) for (const row of some) if (inGroup("front")(row)) values.push(points.low[axis][row], points.high[axis][row]);
    if (axes[axis].limit !== null) values.push(axes[axis].limit);
    const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
    if (axes[axis].log) { const margin = Math.max(1.08, (high / low) ** 0.05); return [low / margin, high * margin]; }
    const margin = Math.max(1, 0.05 * (high - low));
    return [low - margin, high + margin];
  }

  function limits(x, y) {
    const shapes = [], annotations = [], style = { dash: "dot", width: 1.4, color: css("--grey") };
    const label = { showarrow: false, font: { size: 12, color: css("--muted") }, bgcolor: css("--paper") };
    if (axes[x].limit !== null) {
      const at = axes[x].limit;
      shapes.push({ type: "line", x0: at, x1: at, yref: "paper", y0: 0, y1: 1, line: style });
      annotations.push({ ...label, x: axes[x].log ? Math.log10(at) : at, yref: "paper", y: 0, yanchor: "bottom", xanchor: "left", text: `limit ${escaped(axes[x].limit_text)}` });
    }
    if (axes[y].limit !== null) {
      const at = axes[y].limit;
      shapes.push({ type: "line", y0: at, y1: at, xref: "paper", x0: 0, x1: 1, line: style });
      annotations.push({ ...label, y: axes[y].log ? Math.log10(at) : at, xref: "paper", x: 1, xanchor: "right", yanchor: "bottom", text: `limit ${escaped(axes[y].limit_text)}` });
    }
    return { shapes, annotations };
  }

  function pareto() {
    const x = Number(element("x").value), y = Number(element("y").value);
    const some = rows((row) => known(x, y)(row) && (element("others").checked || inGroup("front")(row)));
    const shown = some.length ? some : rows(known(x, y));
    if (!shown.length) { Plotly.react("pareto", [], { ...look(), annotations: [{ text: "No package has both readings.", showarrow: false }] }, options); return; }
    const drawn = traces(x, y), width = element("pareto").clientWidth;
    const entries = drawn.map((trace) => 56 + 7.2 * trace.name.length), columns = Math.max(1, Math.floor(width / Math.max(...entries)));
    const legend = 20 * Math.ceil(drawn.length / columns);  // plotly sets the entries in columns of equal width
    Plotly.react("pareto", drawn, {
      ...look(), xaxis: scale(x, extent(x, shown)), yaxis: scale(y, extent(y, shown)), ...limits(x, y), hovermode: "closest",
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, itemsizing: "constant" }, margin: { l: 62, r: 18, t: 28, b: 62 + legend },
    }, options);
  }

  function choices() {
    const place = (name, other) => Math.max(0, axes.findIndex((axis) => axis.name === name) === -1 ? other : axes.findIndex((axis) => axis.name === name));
    for (const id of ["x", "y"]) {
      axes.forEach((axis, index) => element(id).add(new Option(`${axis.noun}, ${axis.unit}`, String(index))));
      element(id).addEventListener("change", (event) => {
        if (element("x").value === element("y").value) {  // one axis against itself says nothing: the other one moves on
          const other = element(event.target.id === "x" ? "y" : "x");
          other.value = String((Number(other.value) + 1) % axes.length);
        }
        pareto();
      });
    }
    element("y").value = String(place("accuracy", 0));
    const across = place("size", 1);
    element("x").value = String(across === place("accuracy", 0) ? (across + 1) % axes.length : across);
    element("bars").checked = front.length <= CROWD;
    for (const id of ["bars", "others"]) element(id).addEventListener("change", pareto);
    pareto();
    element("pareto").on("plotly_relayout", follow);
  }

  // Ticks of a logarithmic axis follow the eye, in and out.
  function follow(event) {
    const changed = {};
    for (const [name, id] of [["xaxis", "x"], ["yaxis", "y"]]) {
      if (!axes[Number(element(id).value)].log) continue;
      const range = event[`${name}.range[0]`] === undefined ? null : [event[`${name}.range[0]`], event[`${name}.range[1]`]];
      if (range) { const at = ticks(10 ** Math.min(...range), 10 ** Math.max(...range)); changed[`${name}.tickvals`] = at; changed[`${name}.ticktext`] = at.map(said); }
    }
    if (Object.keys(changed).length) Plotly.relayout("pareto", changed);
  }

  // -- parallel coordinates ---------------------------------------------------------------------------------------------
  function parallel() {
    const whole = rows((row) => points.group[row] < 3);
    const some = whole.filter((row) => axes.every((_, a) => points.value[a][row] !== null));
    // Drawn in this order: what matters last, on top.
    const weight = (row) => (points.trial[row] === data.recommended ? 2 : inGroup("front")(row) ? 1 : 0);
    some.sort((a, b) => weight(a) - weight(b));
    const left = whole.length - some.length;
    element("left-out").textContent = left ? `Left out: ${left} without a reading on every axis.` : "";
    if (!some.length) { element("parallel").hidden = true; return; }
    const dimensions = axes.map((axis, a) => {
      const values = column(a, some), low = Math.min(...values), high = Math.max(...values), marks = axis.log ? ticks(low, high) : null;
      const place = axis.log ? Math.log10 : (value) => value;
      const pad = low === high ? Math.max(1e-3, Math.abs(place(low)) * 0.05) : 0;
      const range = [place(low) - pad, place(high) + pad];
      const inner = (marks || []).filter((at) => place(at) - range[0] > 0.07 * (range[1] - range[0]) && range[1] - place(at) > 0.07 * (range[1] - range[0]));
      const every = low === high ? [low] : [low, ...inner, high];  // the ends as well: the axis is drawn between its ticks
      const told = axis.log ? { tickvals: every.map(place), ticktext: every.map(said) } : {};
      return { label: `${escaped(axis.noun)}, ${escaped(axis.unit)}`, values: values.map(place), range: axis.higher ? range : range.reverse(), ...told };
    });
    const many = some.length > 200;  // so many lines would be a grey wall
    const grey = dark() ? (many ? "#232830" : "#4a515e") : many ? "#eceef2" : "#c4c9d2", blue = dark() ? "#56B4E9" : "#0072B2";
    Plotly.react("parallel", [{
      type: "parcoords", dimensions, labelfont: { size: 13, color: css("--ink") }, tickfont: { size: 11, color: css("--muted") }, rangefont: { size: 10, color: "rgba(0,0,0,0)" },
      line: { color: some.map(weight), cmin: 0, cmax: 2, colorscale: [[0, grey], [0.33, grey], [0.34, blue], [0.66, blue], [0.67, "#E69F00"], [1, "#E69F00"]] },
      unselected: { line: { color: css("--line"), opacity: 0.15 } },
    }], { ...look(), margin: { l: 60, r: 60, t: 56, b: 24 } }, { ...options, displayModeBar: false });
  }

  // -- progress ---------------------------------------------------------------------------------------------------------
  function growth() {
    const { by, points: curve } = data.growth, seconds = by === "seconds";
    const longest = curve[curve.length - 1][0], [unit, size] = !seconds ? ["trials", 1] : longest > 7200 ? ["hours", 3600] : longest > 180 ? ["minutes", 60] : ["seconds", 1];
    const x = curve.map((pair) => pair[0] / size), y = curve.map((pair) => 100 * pair[1]);
    Plotly.react("growth", [{
      type: "scatter", mode: curve.length < 60 ? "lines+markers" : "lines", x, y, line: { shape: "hv", width: 2.5, color: css("--accent") },
      fill: "tozeroy", fillcolor: dark() ? "rgba(86,180,233,0.15)" : "rgba(0,114,178,0.12)", hovertemplate: `%{y:.3g} % after %{x:.3g} ${unit}<extra></extra>`,
    }], {
      ...look(), showlegend: false,
      xaxis: { ...line(), title: { text: seconds ? `${unit} of the run` : "trials" }, rangemode: "tozero" },
      yaxis: { ...line(), title: { text: "dominated share of the box, %" }, rangemode: "tozero", automargin: true },
    }, options);
  }

  // -- the page -----------------------------------------------------------------------------------------------------------
  function draw() {
    if (element("pareto") && axes.length > 1) pareto();
    if (element("parallel") && axes.length > 1) parallel();
    if (element("growth")) growth();
  }
  const theme = (name) => { document.documentElement.dataset.theme = name; draw(); };
  element("theme").addEventListener("click", () => theme(dark() ? "light" : "dark"));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let before = null;
  window.addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme || ""; theme("light"); });
  window.addEventListener("afterprint", () => { if (before) theme(before); else { delete document.documentElement.dataset.theme; draw(); } });
  if (element("pareto") && axes.length > 1) choices();
  draw();
  document.documentElement.dataset.drawn = "yes";
})();
