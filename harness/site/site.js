"use strict";
/* Lists of many rows and interactive figures. All data come from script files beside the page, which set SITE.…: a page
   that is opened as a file may not fetch others. */

const SITE = { tables: {}, studies: [] };
const PER_PAGE = 100;

SITE.list = (name, { studies, table }) => { SITE.studies = studies; SITE.tables[name] = table; };

/* About three digits, as harness/analysis/wording.py tells numbers. */
function number(x) {
  if (x === null || x === undefined) return "–";
  const size = Math.abs(x), digits = size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })
    .replace(/^-(0(?:\.0+)?)$/, "$1").replace("-", "−");
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    if (key.includes("-") || key === "role" || key === "for") made.setAttribute(key, value);
    else made[key] = value;
  made.append(...children);
  return made;
}

/* What a kind of column shows of a cell, is sorted by, and is searched in. */
const link = (text, href) => element("a", { href }, text);
const words = cell => cell === null ? "" : String(cell);
const linked = codes => codes.map(code => SITE.studies[code][0]).join(", ");
const KINDS = {
  words: { show: words, key: words, text: words },
  verdict: { show: cell => element("span", { className: cell }, cell), key: words, text: words },
  number: { show: number, key: cell => cell, text: () => "", right: true },
  whole: { show: cell => cell === null ? "–" : String(cell), key: cell => cell, text: () => "", right: true },
  interval: {  // [value, as words, low, high]
    show(cell) {
      const [mean, ends] = cell[1].split(/ (?=\[[^a-z]*\]$)/);
      return ends ? element("span", {}, mean + " ", element("span", { className: "interval" }, ends)) : cell[1];
    },
    key: cell => cell[0], text: () => "", right: true,
  },
  trial: {
    show: cell => element("a", { href: `trials/${cell}.html`, className: "whole" }, cell), key: words, text: words },
  link: { show: cell => link(cell[0], cell[1]), key: cell => cell[0], text: cell => cell[0] },
  studies: {
    show: codes => element("span", {}, ...codes.flatMap((code, i) => [
      ...(i ? [", "] : []), SITE.studies[code][1] ? link(...SITE.studies[code]) : SITE.studies[code][0]])),
    key: linked, text: linked, each: codes => codes.map(code => SITE.studies[code][0]),
  },
};

/* A list: a page of its rows, sorted by the button of a column, filtered by words and choices. The address keeps what
   was chosen, so that it can be sent to others. */
class Table {
  constructor(place, { columns, sets, caption }) {
    Object.assign(this, { place, columns, sets, caption, searched: new Map() });
    this.readAddress();
    this.controls = place.appendChild(element("div", { className: "controls" }));
    this.note = place.appendChild(element("p", { className: "note" }));
    const status = element("p", { role: "status", className: "status" });
    this.status = place.appendChild(status);
    this.table = element("table", { className: "stacks" });
    place.appendChild(element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
      this.table));
    this.pager = place.appendChild(element("nav", { className: "pager", "aria-label": "Pages of the list" }));
    this.makeControls();
    this.show();
    window.addEventListener("hashchange", () => {
      if (location.hash && !location.hash.includes("=")) return;  // a link to a place on the page
      this.readAddress();
      this.makeControls();
      this.show();
    });
  }

  readAddress() {
    const said = new URLSearchParams(location.hash.slice(1)), at = name => this.columns.findIndex(c => c.head === name);
    this.set = Math.max(0, this.sets.findIndex(set => set.name === said.get("protocol")));
    this.search = said.get("search") || "";
    this.sort = at((said.get("sort") || "").replace(/^-/, ""));
    this.falling = (said.get("sort") || "").startsWith("-");
    this.page = Math.max(0, (parseInt(said.get("page")) || 1) - 1);
    this.chosen = new Map(this.columns.flatMap((c, i) => said.get(c.head) && (c.filter || c.least)
      ? [[i, said.get(c.head)]] : []));
  }

  writeAddress() {
    const said = new URLSearchParams();
    if (this.set) said.set("protocol", this.sets[this.set].name);
    if (this.search) said.set("search", this.search);
    if (this.sort >= 0) said.set("sort", (this.falling ? "-" : "") + this.columns[this.sort].head);
    if (this.page) said.set("page", this.page + 1);
    for (const [i, value] of this.chosen) said.set(this.columns[i].head, value);
    history.replaceState(null, "", "#" + said);
  }

  changed(keepPage) {
    if (!keepPage) this.page = 0;
    this.writeAddress();
    this.show();
  }

  control(label, made) {
    this.controls.append(element("label", {}, element("span", {}, label), made));
    return made;
  }

  makeControls() {
    this.controls.replaceChildren();
    if (this.sets.length > 1 || this.sets[0].name) {
      const select = this.control("Protocol", element("select", { className: "wide" },
        ...this.sets.map((set, i) => new Option(set.label, i, i === this.set, i === this.set))));
      select.onchange = () => { this.set = +select.value; this.chosen.clear(); this.makeControls(); this.changed(); };
    }
    const search = this.control("Search", element("input", { type: "search", value: this.search }));
    search.oninput = () => { this.search = search.value; this.changed(); };
    this.columns.forEach((column, i) => {
      if (column.least) {
        const least = this.control(`${column.head}, at least`,
          element("input", { type: "number", min: 0, value: this.chosen.get(i) || "" }));
        least.oninput = () => { this.choose(i, least.value); };
      }
      const values = column.filter ? this.values(i) : [];
      if (values.length > 1) {
        const now = this.chosen.get(i), select = this.control(column.head, element("select", {},
          new Option("all", ""), ...values.map(value => new Option(value, value, false, value === now))));
        select.onchange = () => { this.choose(i, select.value); };
      }
    });
    const by = this.control("Sort by", element("select", { className: "by" }, new Option("as ranked", -1),
      ...this.columns.flatMap((c, i) => [false, true].map(falling => new Option(
        `${c.head} ${falling ? "▼" : "▲"}`, falling ? -i - 2 : i, false, i === this.sort && falling === this.falling)))));
    by.onchange = () => { this.falling = +by.value < -1; this.sort = this.falling ? -by.value - 2 : +by.value; this.changed(); };
  }

  choose(i, value) {
    value ? this.chosen.set(i, value) : this.chosen.delete(i);
    this.changed();
  }

  values(i) {
    const kind = KINDS[this.columns[i].kind], each = kind.each || (cell => [kind.text(cell)]), seen = new Set();
    for (const row of this.sets[this.set].rows) for (const value of each(row[i])) if (value) seen.add(value);
    return [...seen].sort(new Intl.Collator("en", { numeric: true }).compare);
  }

  text(row) {
    if (!this.searched.has(row))
      this.searched.set(row, this.columns.map((c, i) => KINDS[c.kind].text(row[i])).join("\n").toLowerCase());
    return this.searched.get(row);
  }

  found() {
    const wanted = this.search.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = this.sets[this.set].rows.filter(row =>
      [...this.chosen].every(([i, value]) => {
        const { kind, least } = this.columns[i], { each, text } = KINDS[kind];
        return least ? row[i] >= +value : (each ? each(row[i]) : [text(row[i])]).includes(value);
      }) && (!wanted.length || wanted.every(word => this.text(row).includes(word))));
    if (this.sort < 0) return rows;
    const i = this.sort, key = KINDS[this.columns[i].kind].key, sign = this.falling ? -1 : 1;
    const collator = new Intl.Collator("en", { numeric: true });
    return rows.map(row => [key(row[i]), row]).sort(([a], [b]) =>
      a === null || b === null ? (a === null) - (b === null)  // what has no value stands last
        : sign * (typeof a === "number" ? a - b : collator.compare(a, b))).map(([, row]) => row);
  }

  show() {
    const rows = this.found(), all = this.sets[this.set].rows.length, pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
    this.page = Math.min(this.page, pages - 1);
    const first = this.page * PER_PAGE, seen = rows.slice(first, first + PER_PAGE);
    this.note.textContent = this.sets[this.set].note;
    this.status.textContent = rows.length ? `${(first + 1).toLocaleString("en")} to ${(first + seen.length).toLocaleString("en")
      } of ${rows.length.toLocaleString("en")}${rows.length < all ? `, of ${all.toLocaleString("en")} in all` : ""}`
      : `none of ${all.toLocaleString("en")} fits; clear the search or a choice`;
    this.table.replaceChildren(element("caption", {}, this.caption), this.head(), element("tbody", {},
      ...seen.map(row => element("tr", {}, ...this.columns.map((column, i) => element("td",
        { className: KINDS[column.kind].right ? "" : "words", "data-label": column.head }, KINDS[column.kind].show(row[i])))))));
    this.showPager(pages);
    this.place.dispatchEvent(new CustomEvent("shown", { detail: { columns: this.columns, rows, sort: this.sort } }));
  }

  head() {
    return element("thead", {}, element("tr", {}, ...this.columns.map((column, i) => {
      const sorted = i === this.sort, right = KINDS[column.kind].right;
      const button = element("button", { type: "button" }, column.head, element("span", { "aria-hidden": "true" },
        sorted ? (this.falling ? " ▼" : " ▲") : ""));
      button.onclick = () => {
        this.falling = sorted ? !this.falling : false;
        this.sort = i;
        this.changed();
        this.makeControls();
        this.table.querySelectorAll("th button")[i].focus();
      };
      return element("th", { scope: "col", className: right ? "" : "words",
        ...(sorted ? { "aria-sort": this.falling ? "descending" : "ascending" } : {}) }, button);
    })));
  }

  showPager(pages) {
    const go = (text, to, name) => {
      const button = element("button", { type: "button", disabled: to < 0 || to >= pages, "aria-label": name }, text);
      button.onclick = () => {
        this.page = to;
        this.changed(true);
        this.place.querySelector(".scroll").focus();
        this.place.scrollIntoView();
      };
      return button;
    };
    this.pager.hidden = pages < 2;
    this.pager.replaceChildren(go("«", this.page ? 0 : -1, "First page"), go("‹ before", this.page - 1, "Page before"),
      element("span", {}, `page ${this.page + 1} of ${pages}`), go("next ›", this.page + 1, "Next page"),
      go("»", this.page < pages - 1 ? pages - 1 : -1, "Last page"));
  }
}

/* Figures are Vega-Lite's, which is loaded when the page stands. */
const dark = matchMedia("(prefers-color-scheme: dark)");

const NARROW = 500;  // a figure of so few pixels has its legends above, not beside
function theme(width) {
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map(colour);
  const category = dark.matches ? ["#6fb7e6", "#f0945a", "#c3a0e4"] : ["#005a8f", "#c04f00", "#6b3f8f"];
  const text = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal" };
  return {
    background: "transparent", font: "system-ui, sans-serif", view: { stroke: line },
    mark: { color: category[0] },
    axis: { ...text, gridColor: line, domainColor: soft, tickColor: soft, labelLimit: Math.min(420, 0.4 * innerWidth),
      labelOverlap: "greedy", labelSeparation: 6 },
    legend: { ...text, symbolOpacity: 1, orient: width < NARROW ? "top" : "right" }, title: { color: ink, fontSize: 13, anchor: "start" },
    range: { category },
    rule: { color: soft }, point: { size: 80 }, line: { strokeWidth: 1.8 },
  };
}

let loading = null;
function loaded() {
  loading = loading || new Promise((resolve, reject) => document.head.append(element("script",
    { src: SITE.root + "assets/vega.js", onload: resolve, onerror: () => reject(new Error("assets/vega.js is missing")) })));
  return loading;
}

/* Draw a figure into a place, again when the colours or the width change; `make` gives its specification. */
function figure(place, make) {
  let drawn = null, width = 0, wanted = 0;
  const draw = async () => {
    const turn = ++wanted, spec = make(place.clientWidth);
    width = place.clientWidth;
    await loaded();
    if (turn !== wanted) return;
    if (drawn) drawn.finalize();
    drawn = null;
    place.hidden = !spec;
    if (!spec) return;
    drawn = await vegaEmbed(place.querySelector(".chart"), { ...spec, config: theme(width) },
      { renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false }, downloadFileName: place.id });
    place.querySelector("summary")?.setAttribute("aria-label", "Save the figure");
    place.dataset.drawn = "yes";
  };
  dark.addEventListener("change", draw);
  new ResizeObserver(() => { if (Math.abs(place.clientWidth - width) > 8) draw(); }).observe(place);
  requestAnimationFrame(() => setTimeout(draw));
  return draw;
}

/* The scores of the arms that a list shows first: by the score that it is sorted by, else by its first. */
const MOST_SHOWN = 25;
SITE.arms = (place, table) => {
  let now = null;
  const draw = figure(place, width => {
    const { columns, rows, sort } = now;
    const i = sort >= 0 && SITE.figures[columns[sort].score] ? sort : columns.findIndex(c => c.score);
    const shown = rows.filter(row => row[i][0] !== null).slice(0, MOST_SHOWN), seen = new Map();
    const several = name => shown.filter(row => row[0] === name).length > 1;
    const values = shown.map(row => {
      const at = KINDS.studies.text(row[1]), name = several(row[0]) ? `${row[0]}: ${at}` : row[0], times = seen.get(name) || 0;
      seen.set(name, times + 1);
      return { arm: name + "\u200b".repeat(times), study: at, seeds: row[2], page: SITE.studies[row[1][0]][1],
        mean: row[i][0], low: row[i][2] ?? row[i][0], high: row[i][3] ?? row[i][0], shown: row[i][1] };
    });
    if (!values.length) return null;
    place.querySelector("figcaption span").textContent = shown.length < rows.length ? `The first ${shown.length
      } of the ${rows.length.toLocaleString("en")} arms below` : "The arms below";
    return { ...SITE.figures[columns[i].score], datasets: { arms: values }, autosize: { type: "fit-x", contains: "padding" },
      padding: { left: 5, right: 24, top: 5, bottom: 5 }, width: Math.max(260, width - 4), height: 22 * values.length };
  });
  table.addEventListener("shown", event => { now = event.detail; draw(); });
};

/* The curves of a trial, and the same numbers as a table for those who cannot see them. */
const PARTS = { here: "rule", moved: "lines" };  // which marks listen
SITE.curves = place => {
  const { columns, rows } = JSON.parse(document.getElementById("curves-data").textContent);
  const values = rows.map(row => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
  figure(place, width => {
    const spec = structuredClone(SITE.figures.curves);
    spec.vconcat = spec.vconcat.filter(part => part.usermeta.columns.some(name => values.some(v => v[name] != null)));
    if (!spec.vconcat.length) return null;
    spec.params = spec.params.map(param => ({ ...param,
      views: spec.vconcat.flatMap(part => part.layer.map(layer => layer.name)).filter(n => n.startsWith(PARTS[param.name])) }));
    for (const part of spec.vconcat) part.width = Math.max(180, Math.min(760, width - (width < NARROW ? 80 : 210)));
    if (width < NARROW) for (const part of spec.vconcat) part.height = 150;
    return { ...spec, datasets: { curves: values } };
  });
  const fold = document.getElementById("curves-table");
  fold.addEventListener("toggle", () => {
    if (fold.querySelector("table")) return;
    fold.append(element("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Curves as a table" },
      element("table", {}, element("thead", {}, element("tr", {}, ...columns.map(name => element("th", { scope: "col" }, name)))),
        element("tbody", {}, ...rows.map(row => element("tr", {}, ...row.map(cell => element("td", {}, number(cell)))))))));
  });
};

/* What scrolls sideways can be reached by the keyboard, in browsers that do not see to it themselves; no other table. */
const scrolls = new ResizeObserver(seen => {
  for (const { target } of seen)
    if (target.scrollWidth > target.clientWidth)
      for (const [name, value] of [["tabindex", 0], ["role", "group"], ["aria-label", "Table, scrolls sideways"]])
        target.setAttribute(name, value);
    else for (const name of ["tabindex", "role", "aria-label"]) target.removeAttribute(name);
});

document.addEventListener("DOMContentLoaded", () => {
  for (const place of document.querySelectorAll("div.scroll")) scrolls.observe(place);
  SITE.root = document.documentElement.dataset.root;
  const lists = [...document.querySelectorAll("[data-table]")];
  for (const place of document.querySelectorAll("[data-figure]"))
    SITE[place.dataset.figure](place, lists[0]);
  for (const place of lists) new Table(place, SITE.tables[place.dataset.table]);
  performance.mark("shown");
});
