"use strict";
// Sorting and filtering of the tables. The page is whole without it: it only adds buttons and fields.
(() => {
  const SECONDS = { s: 1, min: 60, h: 3600, d: 86400 };
  const FACTORS = { k: 1e3, m: 1e6, b: 1e9 };
  const MIN_ROWS_TO_SORT = 2;
  const MIN_ROWS_TO_FILTER = 6;

  // The number that a cell stands for: "2 h 05 min", "50k", "1,234", "0.54 [0.52, 0.56]"; null where it has none.
  function numberOf(text) {
    const plain = text.replaceAll("\u2212", "-").replaceAll(",", "").trim();
    const spans = [...plain.matchAll(/([\d.]+) (min|s|h|d)\b/g)];
    if (spans.length > 0) return spans.reduce((sum, [, value, unit]) => sum + Number(value) * SECONDS[unit], 0);
    const found = plain.match(/^([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)([kmb])?(?![a-z])/i);
    return found ? Number(found[1]) * (FACTORS[(found[2] ?? "").toLowerCase()] ?? 1) : null;
  }

  function keyOf(row, column, numeric) {
    const text = row.cells[column].textContent.trim();
    if (numeric) return numberOf(text);
    return text === "" || text === "\u2013" ? null : text;
  }

  function compare(a, b, direction) {
    if (a === null || b === null) return (a === null) - (b === null); // what is unknown stays last, either way
    return direction * (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  }

  function sortBy(table, rows, header, state) {
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    if (state !== "none") header.setAttribute("aria-sort", state);
    const numeric = header.classList.contains("number");
    const keyed = rows.map((row) => ({ row, key: keyOf(row, header.cellIndex, numeric) }));
    if (state !== "none") keyed.sort((a, b) => compare(a.key, b.key, state === "ascending" ? 1 : -1));
    table.tBodies[0].append(...keyed.map(({ row }) => row));
  }

  function makeSortable(table, rows) {
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    for (const header of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "sort";
      button.append(...header.childNodes);
      button.addEventListener("click", () => {
        sortBy(table, rows, header, next[header.getAttribute("aria-sort") ?? "none"]);
      });
      header.append(button);
    }
  }

  function makeFilterable(frame, rows, name) {
    const label = document.createElement("label");
    const field = document.createElement("input");
    const count = document.createElement("output");
    field.type = "search";
    field.placeholder = "words, all of which must occur";
    label.className = "filter";
    label.append(`Filter ${name} `, field, " ", count);
    const texts = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase());
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/);
      rows.forEach((row, index) => { row.hidden = !words.every((word) => texts[index].includes(word)); });
      count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
    };
    field.addEventListener("input", show);
    show();
    frame.before(label);
  }

  for (const table of document.querySelectorAll(".scroll > table")) {
    const rows = [...table.tBodies[0].rows];
    const frame = table.parentElement;
    if (rows.length >= MIN_ROWS_TO_SORT) makeSortable(table, rows);
    if (rows.length >= MIN_ROWS_TO_FILTER) makeFilterable(frame, rows, `'${frame.getAttribute("aria-label")}'`);
  }

  // A link to a closed specification opens it.
  function openTarget() {
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  }
  addEventListener("hashchange", openTarget);
  openTarget();
})();
