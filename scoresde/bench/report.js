"use strict";
// Legend buttons show or hide a solver in all charts of their panel.
for (const button of document.querySelectorAll("[data-toggle]")) {
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    const wanted = `[data-series="${button.dataset.toggle}"]`;
    for (const group of button.closest(".panel").querySelectorAll(wanted)) group.classList.toggle("off", !on);
  });
}

// The table of all cells: filter by words, sort by any column. Missing values always go last.
const table = document.getElementById("all");
const body = table.tBodies[0];
const rows = [...body.rows];
const words = rows.map((row) => row.textContent.toLowerCase());
const filter = document.getElementById("filter");
const count = document.getElementById("count");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  rows.forEach((row, i) => {
    row.hidden = !wanted.every((word) => words[i].includes(word));
    shown += !row.hidden;
  });
  count.textContent = `${shown} of ${rows.length}`;
});

const heads = [...table.tHead.rows[0].cells];
heads.forEach((head, column) => {
  head.firstElementChild.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const numeric = head.classList.contains("number");
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    const sign = descending ? -1 : 1;
    const compare = (a, b) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : a.localeCompare(b));
    };
    body.append(...[...rows].sort((a, b) => compare(key(a), key(b))));
  });
});
