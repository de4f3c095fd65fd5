"use strict";
(() => {
  const all = (css, root = document) => [...root.querySelectorAll(css)];

  // Figures: each plot is followed by its data, which is read and never run.
  const touch = matchMedia("(pointer: coarse)").matches;
  const plots = all(".plot");
  for (const plot of plots) {
    const { data, layout } = JSON.parse(plot.nextElementSibling.textContent);
    if (touch) layout.dragmode = false; // a finger on a figure scrolls the page
    Plotly.newPlot(plot, data, layout, { displayModeBar: false, responsive: true, typesetMath: false });
  }
  document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true"); // plotly's measuring rod, an image without a name
  // A box that scrolls must be reachable from the keyboard; which ones do depends on the width of the window.
  const reachable = () => {
    for (const frame of all(".frame")) {
      const wide = frame.scrollWidth > frame.clientWidth;
      for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", `${frame.previousElementSibling.textContent}, scrolls sideways`]]) {
        if (wide) frame.setAttribute(name, value);
        else frame.removeAttribute(name);
      }
    }
  };
  addEventListener("resize", reachable);
  reachable();

  // Tables: search and sort over the rows that the page holds.
  const collator = new Intl.Collator("en", { numeric: true });
  const key = (cell) => Number(cell.dataset.key ?? cell.textContent);
  const compare = (numeric, sign) => (a, b) => {
    const [lost, other] = numeric ? [Number.isNaN(a), Number.isNaN(b)] : [a === "", b === ""];
    if (lost || other) return lost - other; // what is undefined comes last both ways
    return sign * (numeric ? Math.sign(a - b) || 0 : collator.compare(a, b));
  };
  for (const box of all("details.table")) {
    const body = box.querySelector("tbody");
    const rows = [...body.rows];
    const status = box.querySelector("[role=status]");
    let words = null;
    box.querySelector("input").addEventListener("input", (event) => {
      words ??= rows.map((row) => [...row.cells].map((cell) => cell.textContent).join("\n").toLowerCase());
      const asked = event.target.value.trim().toLowerCase();
      let seen = 0;
      rows.forEach((row, k) => {
        row.hidden = !words[k].includes(asked);
        seen += !row.hidden;
      });
      status.textContent = `${seen} of ${status.dataset.total} rows`;
    });
    const heads = all("thead th", box);
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        // up, down, and as the table was written
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")];
        for (const each of heads) each.setAttribute("aria-sort", each === head ? next : "none");
        let order = rows;
        if (next !== "none") {
          const numeric = head.classList.contains("num");
          const by = compare(numeric, next === "ascending" ? 1 : -1);
          order = rows
            .map((row) => [numeric ? key(row.cells[column]) : row.cells[column].textContent, row])
            .sort((a, b) => by(a[0], b[0]))
            .map((pair) => pair[1]);
        }
        body.append(...order);
      });
    });
  }

  // A link to a table opens it and takes the keyboard there.
  const reveal = (hash) => {
    const target = hash.length > 1 && document.getElementById(hash.slice(1));
    if (!target || !target.matches("details")) return;
    target.open = true;
    target.querySelector("summary").focus({ preventScroll: true });
    target.scrollIntoView();
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link) setTimeout(() => reveal(link.hash)); // after the browser has gone there itself
  });
  addEventListener("hashchange", () => reveal(location.hash));
  reveal(location.hash);

  // On paper: figures as wide as they were designed (the style sheet scales them to the sheet), settings and steps open.
  let shut = [];
  addEventListener("beforeprint", () => {
    shut = all("details.plain:not([open])");
    for (const each of shut) each.open = true;
    for (const plot of plots) Plotly.relayout(plot, { autosize: false, width: 760 });
  });
  addEventListener("afterprint", () => {
    for (const each of shut) each.open = false;
    for (const plot of plots) Plotly.relayout(plot, { autosize: true, width: null });
  });
  document.documentElement.dataset.ready = "yes";
})();
