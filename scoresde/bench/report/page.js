"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Light or dark: what the system says, until the button is pressed.
const theme = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
const tell = () => theme.setAttribute("aria-pressed", String(isDark()));
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  tell();
});
system.addEventListener("change", tell);
tell();

// Legend buttons show or hide a solver in all charts of their panel; pointing at one dims the others.
const groups = (panel, series) => all(`[data-series="${series}"]`, panel);
const show = (button, on) => {
  button.setAttribute("aria-pressed", String(on));
  for (const group of groups(button.closest(".panel"), button.dataset.toggle)) group.classList.toggle("off", !on);
};
for (const button of all("[data-toggle]")) {
  const panel = button.closest(".panel");
  const dim = (on) => {
    for (const group of all("[data-series]", panel)) {
      group.classList.toggle("dim", on && group.dataset.series !== button.dataset.toggle);
    }
  };
  const pressed = () => button.getAttribute("aria-pressed") === "true";
  show(button, pressed());
  button.addEventListener("click", () => {
    show(button, !pressed());
    dim(pressed());
  });
  for (const [start, end] of [["pointerenter", "pointerleave"], ["focus", "blur"]]) {
    button.addEventListener(start, () => dim(pressed()));
    button.addEventListener(end, () => dim(false));
  }
}
for (const button of all("[data-every]")) {
  button.addEventListener("click", () => {
    for (const one of all("[data-toggle]", button.parentElement)) show(one, button.dataset.every === "true");
  });
}

// Tables that are coloured by number: one budget at a time.
for (const select of all("[data-budget]")) {
  select.addEventListener("change", () => {
    for (const part of all("[data-nfe]", select.closest(".heat-group"))) part.hidden = part.dataset.nfe !== select.value;
  });
}

// The table of all cells: filter by words and by columns, sort by any column. Missing values always go last.
const table = document.getElementById("all");
const body = table.tBodies[0];
const rows = [...body.rows];
const words = rows.map((row) => row.textContent.toLowerCase());
const filter = document.getElementById("filter");
const count = document.getElementById("count");
const choosers = all("[data-column]").map((select) => ({select, texts: rows.map((row) => row.cells[select.dataset.column].textContent)}));
const natural = new Intl.Collator(undefined, {numeric: true}).compare;
for (const {select, texts} of choosers) {
  for (const text of [...new Set(texts)].sort(natural)) select.add(new Option(text));
}
const update = () => {
  const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const asked = choosers.filter(({select}) => select.value !== "");
  let shown = 0;
  rows.forEach((row, i) => {
    const fits = wanted.every((word) => words[i].includes(word)) && asked.every(({select, texts}) => texts[i] === select.value);
    if (row.hidden === fits) row.hidden = !fits;
    shown += fits;
  });
  count.textContent = `${shown} of ${rows.length}`;
};
filter.form.addEventListener("input", update);
filter.form.addEventListener("submit", (event) => event.preventDefault());
filter.form.addEventListener("reset", () => setTimeout(update));

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
    const compare = ([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (numeric ? a - b : natural(a, b));
    };
    body.append(...rows.map((row) => [key(row), row]).sort(compare).map(([, row]) => row));
  });
});

// The suite's text.
document.getElementById("copy")?.addEventListener("click", async (event) => {
  const button = event.currentTarget;
  const text = document.getElementById("recipe");
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(text); // no right to the clipboard: select it instead
    button.textContent = "Selected";
  }
});
