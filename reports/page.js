"use strict";

// Every table sorts; the table of cells filters too, and keeps its view in the address's fragment.

const measured = JSON.parse(document.getElementById("measured").textContent);
const cost = JSON.parse(document.getElementById("cost").textContent);
const exhibits = {...measured.exhibits, ...cost.exhibits};
const places = new Map(measured.cells.map((cell, place) => [cell.key, place]));
const NOTHING = "\u2013";

const escaped = text => String(text).replace(/[&<>"']/g, one => `&#${one.charCodeAt(0)};`);

function element(name, properties = {}, ...inside) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...inside);
  return made;
}

// The first number of a text: of "62.1 ± 0.4", "< 0.001", "p = 0.03", "1:100" (its second part).
const BEFORE = /^(?:[a-z]\w*\s*[=<>≤≥≈]\s*|[^\p{L}\d]{0,2}?)(?:1:)?/iu;
const NUMBER = new RegExp(`${BEFORE.source}([-+−]?\\d[\\d,]*\\.?\\d*(?:e[-+]?\\d+)?)`, "iu");

function numeral(text) {
  if (text === "balanced") return 1;  // the ratio 1:1
  const found = text.startsWith(NOTHING) ? null : NUMBER.exec(text);
  return found ? Number(found[1].replace("−", "-").replaceAll(",", "")) : NaN;
}

// Sort keys of a column: numbers if most filled places begin with one, else texts; null is empty.
function keysOf(texts) {
  const filled = texts.filter(text => text && !text.startsWith(NOTHING));
  const numbers = filled.filter(text => !isNaN(numeral(text))).length;
  const numeric = numbers > 0 && 2 * numbers >= filled.length;
  const keys = texts.map(text => {
    if (numeric) return isNaN(numeral(text)) ? null : numeral(text);
    return !text || text.startsWith(NOTHING) ? null : text;
  });
  return {numeric, keys};
}

const words = new Intl.Collator("en", {numeric: true});

const CHUNK = 100;  // rows that are drawn at once: layout of a thousand takes a second

// Makes a table sortable: numbers begin with the largest, words with A; a third click gives the
// order of the file back. What is empty stays last. Rows are drawn as far as one has scrolled.
class Sortable {
  constructor(table, {chunked = false, changed = () => {}} = {}) {
    this.table = table;
    this.chunked = chunked;
    this.body = table.tBodies[0];
    this.rows = [...this.body.rows];
    this.heads = [...table.tHead.rows[0].cells];
    this.names = this.heads.map(head => head.textContent);
    this.texts = this.rows.map(row => [...row.cells].map(cell => cell.textContent.trim()));
    this.known = new Map();
    this.shown = () => true;
    this.sorted = null;
    this.changed = changed;
    this.heads.forEach((head, column) => {
      const button = element("button", {type: "button", title: "Sort by this column"});
      button.append(...head.childNodes);
      button.addEventListener("click", () => this.turn(column));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    });
    this.order = this.rows.map((_, place) => place);
    const frame = table.parentElement;
    const bottom = () => frame.scrollHeight - frame.scrollTop - frame.clientHeight;
    frame.addEventListener("scroll", () => {
      if (this.drawn < this.order.length && bottom() < frame.clientHeight) this.more();
    }, {passive: true});
    addEventListener("beforeprint", () => this.more(Infinity));
  }

  more(count = CHUNK) {
    const next = this.order.slice(this.drawn, this.drawn + count);
    this.body.append(...next.map(place => this.rows[place]));
    this.drawn += next.length;
  }

  // The row of a place, drawn if it is in the view at all.
  reach(place) {
    const at = this.order.indexOf(place);
    if (at >= this.drawn) this.more(at + 1 - this.drawn);
    return this.rows[place];
  }

  column(column) {
    if (!this.known.has(column)) this.known.set(column, keysOf(this.texts.map(row => row[column])));
    return this.known.get(column);
  }

  turn(column) {
    const first = this.column(column).numeric ? -1 : 1;
    if (this.sorted?.column !== column) this.sorted = {column, up: first};
    else if (this.sorted.up === first) this.sorted = {column, up: -first};
    else this.sorted = null;
    this.draw();
    this.changed();
  }

  draw() {
    let order = this.rows.map((_, place) => place);
    if (this.sorted) {
      const {column, up} = this.sorted;
      const {numeric, keys} = this.column(column);
      order.sort((a, b) => {
        const [one, other] = [keys[a], keys[b]];
        if (one === null || other === null) return (one === null) - (other === null);
        return up * (numeric ? one - other : words.compare(one, other));
      });
    }
    this.order = order.filter(place => this.shown(place));
    this.body.replaceChildren();
    this.drawn = 0;
    this.more(this.chunked ? CHUNK : Infinity);
    this.table.parentElement.scrollTop = 0;
    this.table.classList.toggle("resorted", this.sorted !== null);
    this.heads.forEach((head, column) => {
      const here = this.sorted?.column === column;
      const direction = this.sorted?.up > 0 ? "ascending" : "descending";
      head.setAttribute("aria-sort", here ? direction : "none");
    });
  }
}

// Exhibits: sorting, buttons for verdicts, and the cells behind each row.

function judged(table, sortable) {
  const marks = sortable.rows.map(row => row.querySelector(".verdict"));
  const kinds = new Map();
  for (const mark of marks) if (mark) {
    const kind = kinds.get(mark.textContent) ?? {look: mark.className, count: 0};
    kinds.set(mark.textContent, {...kind, count: kind.count + 1});
  }
  const bar = element("div", {className: "verdicts"});
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Show verdicts");
  const pick = (word, pressed) => {
    sortable.shown = place => word === null || marks[place]?.textContent === word;
    sortable.draw();
    for (const button of bar.children) button.setAttribute("aria-pressed", button === pressed);
  };
  const add = (word, look, count) => {
    const button = element("button", {type: "button", className: look}, `${word ?? "all"} `,
      element("b", {textContent: count}));
    button.setAttribute("aria-pressed", word === null);
    button.addEventListener("click", () => pick(word, button));
    bar.append(button);
  };
  add(null, "", sortable.rows.length);
  for (const [word, {look, count}] of kinds) add(word, look, count);
  table.parentElement.before(bar);
}

function behind(name) {
  const rows = exhibits[name].map(([id, cells]) => {
    const links = cells.map(cell => {
      const known = measured.cells[cell];
      if (known === undefined) return `<code>${escaped(cell)}</code>`;
      const key = escaped(known.key);
      return `<a href="#cell-${key}" title="${escaped(known.label)}">${key}</a>`;
    });
    return `<tr><th scope="row"><code>${escaped(name)}/${escaped(id)}</code></th>` +
      `<td>${links.join(" ")}</td></tr>`;
  });
  return "<p>Each row of the exhibit's CSV, and the cells that its numbers come from. A dot and " +
    "the name of a column make it the id of a number: " +
    "<code>python -m benchmark report --trace ID</code>.</p>" +
    `<div class="wide"><table><tbody>${rows.join("")}</tbody></table></div>`;
}

for (const table of document.querySelectorAll("table.exhibit")) {
  const sortable = new Sortable(table);
  if (table.classList.contains("judged")) judged(table, sortable);
}

for (const name of Object.keys(exhibits)) {
  const article = document.getElementById(name);
  const count = new Set(exhibits[name].flatMap(([, cells]) => cells)).size;
  const details = element("details", {className: "behind"},
    element("summary", {textContent: `The ${count} cells behind these numbers`}));
  details.addEventListener("toggle", () => {
    if (details.childElementCount === 1) details.insertAdjacentHTML("beforeend", behind(name));
  });
  article.append(details);
}

// The table of cells.

const FILTERS = ["data", "ratio", "head", "backbone", "recipe", "state"];

function addCosts(table) {
  cost.headings.forEach(heading => table.tHead.rows[0].append(
    element("th", {scope: "col", className: "cost", textContent: heading})));
  [...table.tBodies[0].rows].forEach((row, place) => {
    for (const text of cost.rows[place]) row.insertCell().textContent = text;
  });
}

const table = document.querySelector("table.cells");
addCosts(table);
const cells = new Sortable(table, {chunked: true, changed: () => remember()});
const sought = measured.cells.map(cell =>
  [cell.label, cell.head, cell.data, cell.suites].join("\n").toLowerCase());
const search = element("input", {type: "search", placeholder: "words of a label", id: "words"});
const selects = new Map();
const count = element("output", {className: "count"});
const reset = element("button", {type: "button", textContent: "Show all", hidden: true});

function addControls() {
  const form = element("form", {className: "filters"},
    element("label", {}, "find", search));
  for (const name of FILTERS) {
    const values = [...new Set(measured.cells.map(cell => cell[name]))];
    values.sort((a, b) => numeral(a) - numeral(b) || words.compare(a, b));
    if (values.length < 2) continue;
    const select = element("select", {id: `filter-${name}`},
      element("option", {value: "", textContent: "all"}),
      ...values.map(value => element("option", {value, textContent: value})));
    selects.set(name, select);
    form.append(element("label", {}, name, select));
  }
  form.append(reset, count);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", () => { sift(); remember(); });
  reset.addEventListener("click", () => { restore(""); remember(); search.focus(); });
  table.parentElement.before(form);
}

// Whether a cell has a word: anywhere in label, head, data and suites, or at the key's beginning.
// A number is a whole one: "seed 3" is not found in resnet32.
function matcher(word) {
  const number = /^\d+$/.test(word) ? new RegExp(`\\b${word}\\b`) : null;
  return place => (number ? number.test(sought[place]) : sought[place].includes(word)) ||
    (word.length >= 6 && measured.cells[place].key.startsWith(word));
}

// Draws the cells that match all words and all that is chosen.
function sift() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean).map(matcher);
  const picked = [...selects].filter(([, select]) => select.value !== "");
  cells.shown = place =>
    wanted.every(matches => matches(place)) &&
    picked.every(([name, select]) => measured.cells[place][name] === select.value);
  cells.draw();
  const [found, all] = [cells.order.length, cells.rows.length];
  count.textContent = found === all ? `${all} cells` : `${found} of ${all} cells`;
  reset.hidden = !view();
}

// The view as a query: find=psc&head=psc&sort=-accuracy+%25
function view() {
  const query = new URLSearchParams();
  if (search.value) query.set("find", search.value);
  for (const [name, select] of selects) if (select.value) query.set(name, select.value);
  if (cells.sorted) {
    query.set("sort", (cells.sorted.up > 0 ? "" : "-") + cells.names[cells.sorted.column]);
  }
  return query.toString();
}

function restore(text) {
  const query = new URLSearchParams(text);
  search.value = query.get("find") ?? "";
  for (const [name, select] of selects) {
    select.value = query.get(name) ?? "";
    if (select.selectedIndex < 0) select.value = "";
  }
  const sort = query.get("sort") ?? "";
  const column = cells.names.indexOf(sort.replace(/^-/, ""));
  cells.sorted = column < 0 ? null : {column, up: sort.startsWith("-") ? -1 : 1};
  sift();
}

function fragment(anchor) {
  const query = view();
  return query ? `#${anchor || "cells"}?${query}` : `#${anchor}`;
}

function remember(anchor = "", anew = false) {
  try {
    history[anew ? "pushState" : "replaceState"](null, "", fragment(anchor));
  } catch { /* shown inside another page, where the address is not ours */ }
  reset.hidden = !view();
}

// The address's fragment, as the page's state: an anchor and, behind it, a view of the cells.
function follow() {
  const [, anchor, query] = /^#?([^?]*)\??(.*)$/s.exec(location.hash);
  if (query) restore(query);
  if (anchor === "cells" && query) document.getElementById("cells").scrollIntoView();
  const place = places.get(anchor.replace(/^cell-/, ""));
  if (anchor.startsWith("cell-") && place !== undefined) panel.open(place);
  else panel.close();
}

addControls();
sift();
addEventListener("hashchange", follow);

document.addEventListener("click", event => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest("a[href^='#cell-']");
  const row = link ? null : event.target.closest("table.cells tbody tr");
  if (!link && (!row || String(getSelection()))) return;
  const place = link ? places.get(link.hash.slice(6)) : cells.rows.indexOf(row);
  if (place === undefined) return;
  event.preventDefault();
  remember(`cell-${measured.cells[place].key}`, true);
  panel.open(place);
});
