// One cell, opened: settings, curves, accuracy by class, cost and origin. Drawn when asked for.

const WIDTH = 260, HEIGHT = 120;  // of a chart, in its own units; a unit is about a pixel
const LEFT = 40, RIGHT = 8, TOP = 8, BOTTOM = 18;

const PLAIN = new Map(Object.entries({
  "train/loss": "training loss", "train/lr": "learning rate",
  "train/validation": "validation accuracy",
  "train/oracle": "test accuracy while training, not a result",
  "train/nc1": "NC1, within-class scatter", "train/nc2": "NC2, angles of class means",
  "train/nc3": "NC3, vectors against means", "train/nc4": "NC4, nearest mean disagrees",
  "head/agreement": "head: mean cosine of means and prototypes",
  "head/moved": "head: share of labels moved", "head/moves": "head: labels moved so far",
}));
const ORDER = ["train/loss", "train/validation", "train/oracle",
  "head/moved", "head/moves", "head/agreement", "train/nc1", "train/nc2", "train/nc3", "train/nc4"];

const plain = name => PLAIN.get(name) ??
  name.replace(/^train\//, "").replace(/^head\//, "head: ").replaceAll("_", " ");

const short = value => {
  const size = Math.abs(value);
  if (size >= 1e5 || (0 < size && size < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(3)));
};

// Two to five round numbers within a range.
function ticks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find(times => times * power >= rough) * power;
  const found = [];
  const last = high / step + 1e-9;  // rounding must not lose a tick at the border
  for (let nth = Math.ceil(low / step - 1e-9); nth <= last; nth++) found.push(nth * step);
  return found;
}

// What a vertical axis spans: from 0 where that costs less than half of it, never nothing.
function range(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const around = Math.abs(low) / 10;
  if (low === high) return low === 0 ? [0, 1] : [low - around, high + around];
  return [low > 0 && low < 0.5 * high ? 0 : low, high];
}

function chart(name, xs, ys, epochs) {
  const title = escaped(plain(name));
  const last = ys.at(-1);
  const [low, high] = range(ys);
  const begin = Math.min(0, xs[0]), end = Math.max(xs.at(-1), begin + 1e-9);
  const unit = end <= 1.01 * epochs ? "epoch" : "step";
  const right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM;
  const across = x => LEFT + (x - begin) / (end - begin) * (right - LEFT);
  const up = y => bottom - (y - low) / (high - low) * (bottom - TOP);
  const spots = xs.map((x, i) => [across(x).toFixed(1), up(ys[i]).toFixed(1)]);
  const lines = ticks(low, high).map(y =>
    `<path class="grid" d="M${LEFT} ${up(y).toFixed(1)}H${right}"/>` +
    `<text x="${LEFT - 5}" y="${(up(y) + 3).toFixed(1)}" text-anchor="end">${short(y)}</text>`);
  const dots = xs.length > 15 ? "" :
    spots.map(([x, y]) => `<circle class="dot" cx="${x}" cy="${y}" r="2.2"/>`).join("");
  return `<figure class="chart" data-curve="${escaped(name)}"><figcaption>${title}` +
    `<output>${short(last)}</output></figcaption>` +
    `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}: ` +
    `from ${short(ys[0])} at ${unit} ${short(xs[0])} to ${short(last)} at ${unit} ` +
    `${short(xs.at(-1))}">${lines.join("")}` +
    `<text x="${LEFT}" y="${HEIGHT - 4}">${short(begin)}</text>` +
    `<text x="${right}" y="${HEIGHT - 4}" text-anchor="end">${unit} ${short(xs.at(-1))}</text>` +
    `<path class="curve" d="M${spots.map(spot => spot.join(" ")).join("L")}"/>${dots}` +
    `<path class="cursor" d=""/></svg></figure>`;
}

// Under the pointer: a line at the nearest point, its value in place of the last one.
function follows(figure, xs, ys) {
  const svg = figure.querySelector("svg"), told = figure.querySelector("output");
  const cursor = figure.querySelector(".cursor"), last = told.textContent;
  const begin = Math.min(0, xs[0]), end = xs.at(-1);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * WIDTH;
    const x = begin + (at - LEFT) / (WIDTH - RIGHT - LEFT) * (end - begin);
    let near = 0;
    xs.forEach((each, i) => { if (Math.abs(each - x) < Math.abs(xs[near] - x)) near = i; });
    const spot = LEFT + (xs[near] - begin) / (end - begin || 1) * (WIDTH - RIGHT - LEFT);
    cursor.setAttribute("d", `M${spot.toFixed(1)} ${TOP}V${HEIGHT - BOTTOM}`);
    told.textContent = `${short(ys[near])} at ${short(xs[near])}`;
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("d", "");
    told.textContent = last;
  });
}

const percent = share => share === null ? NOTHING : `${(100 * share).toFixed(1)} %`;

// Classes by frequency, the most frequent first: equal ones in the order of labels.
function ranked(cell) {
  const {names, counts, groups, superclasses} = measured.shared[cell.classes];
  return cell.accuracies.map((accuracy, label) => ({
    label, accuracy, name: names[label] ?? `class ${label}`, count: counts[label],
    group: groups[label] ?? "", family: superclasses[label] ?? "",
  })).sort((a, b) => (b.count ?? 0) - (a.count ?? 0) || a.label - b.label);
}

const told = ({name, count, group, family, accuracy}) =>
  `${name}${family ? ` (${family})` : ""}: ${percent(accuracy)}` +
  (count === undefined ? "" : `, ${count} training images`) + (group ? `, ${group}` : "");

function bars(classes) {
  const each = 700 / classes.length, gap = each > 4 ? 0.18 * each : 0;
  const drawn = classes.map((one, i) => {
    const high = 100 * (one.accuracy ?? 0);
    return `<g><title>${escaped(told(one))}</title>` +
      `<rect class="whole" x="${(i * each).toFixed(2)}" y="0" width="${each.toFixed(2)}" ` +
      `height="100"/><rect class="bar ${escaped(one.group)}" ` +
      `x="${(i * each + gap / 2).toFixed(2)}" y="${(100 - high).toFixed(2)}" ` +
      `width="${(each - gap).toFixed(2)}" height="${high.toFixed(2)}"/></g>`;
  });
  const grid = [0, 25, 50, 75].map(y => `<path class="grid" d="M0 ${y}H700"/>`).join("");
  return `<svg class="bars" viewBox="0 0 700 100" preserveAspectRatio="none" role="img" ` +
    `aria-label="Accuracy of each class, the most frequent first">${grid}${drawn.join("")}</svg>`;
}

function groupsOf(classes) {
  const found = [];
  for (const one of classes) {
    if (found.at(-1)?.name !== one.group) found.push({name: one.group, classes: []});
    found.at(-1).classes.push(one);
  }
  return found;
}

function byClass(cell) {
  const classes = ranked(cell);
  if (classes.length === 0) return "";
  const groups = groupsOf(classes).map(({name, classes}) => {
    const known = classes.map(one => one.accuracy).filter(accuracy => accuracy !== null);
    const mean = known.length ? known.reduce((sum, one) => sum + one, 0) / known.length : null;
    return `<span data-size="${classes.length}"><b>${escaped(name || "all")}</b> ` +
      `${classes.length} classes, ${percent(mean)}</span>`;
  });
  const rows = classes.map(one =>
    `<tr><td>${escaped(one.name)}</td><td>${one.count ?? NOTHING}</td>` +
    `<td>${escaped(one.group)}</td><td>${percent(one.accuracy)}</td></tr>`);
  const counts = classes.map(one => one.count).filter(count => count !== undefined);
  const span = counts.length === 0 ? "" : counts[0] === counts.at(-1)
    ? `, each with ${counts[0]} training images`
    : `, from ${counts[0]} training images on the left to ${counts.at(-1)} on the right`;
  return `<section class="classes"><h3>Accuracy by class</h3>` +
    `<p class="look">On the test set${span}.</p>` +
    `<div class="scale"><span>100 %</span><span>50</span><span>0</span></div>${bars(classes)}` +
    `<div class="groups">${groups.join("")}</div><output class="class">&nbsp;</output>` +
    `<details><summary>As a table</summary><div class="wide"><table class="exhibit"><thead><tr>` +
    `<th scope="col">class</th><th scope="col">training images</th><th scope="col">group</th>` +
    `<th scope="col">accuracy</th></tr></thead><tbody>${rows.join("")}</tbody></table></div>` +
    `</details></section>`;
}

// Nested plain values as a list of names and values.
function listed(values) {
  if (values === null || values === "") return `<span class="none">${NOTHING}</span>`;
  if (Array.isArray(values)) {
    if (values.length === 0) return `<span class="none">none</span>`;
    const nested = values.some(each => typeof each === "object");
    return values.map(listed).join(nested ? "; " : ", ");
  }
  if (typeof values === "boolean") return values ? "yes" : "no";
  if (typeof values !== "object") return escaped(values);
  const rows = Object.entries(values);
  if (rows.length === 0) return `<span class="none">none</span>`;
  return `<dl>${rows.map(([name, value]) =>
    `<dt>${escaped(name.replaceAll("_", " "))}</dt><dd>${listed(value)}</dd>`).join("")}</dl>`;
}

const box = (heading, inside) =>
  `<section class="box"><h4>${escaped(heading)}</h4>${inside}</section>`;

function numbers(place) {
  const hidden = new Set(["cell", "state", "key", ...cost.headings]);
  const rows = cells.names.map((name, column) => [name, cells.texts[place][column]]);
  const extra = Object.entries(measured.cells[place].metrics).map(([name, value]) =>
    name.endsWith("accuracy") ? [`${name} %`, (100 * value).toFixed(1)] : [name, short(value)]);
  const tiles = [...rows, ...extra]
    .filter(([name, text]) => !hidden.has(name) && text !== NOTHING)
    .map(([name, text]) => `<div><dt>${escaped(name.replaceAll("_", " "))}</dt>` +
      `<dd>${escaped(text)}</dd></div>`);
  return `<dl class="tiles">${tiles.join("")}</dl>`;
}

function origin(cell, facts) {
  const uses = measured.shared[cell.digests];
  const key = `<code>${escaped(cell.key)}</code>`;
  const commit = facts.commit ? `<code>${escaped(facts.commit)}</code>` : NOTHING;
  const run = facts.run ? `<dt>run id</dt><dd><code>${escaped(facts.run)}</code></dd>` : "";
  return box("where it comes from", `<dl><dt>key</dt><dd>${key}</dd>${run}` +
      `<dt>suites</dt><dd>${escaped(cell.suites) || NOTHING}</dd>` +
      `<dt>commit</dt><dd>${commit}</dd></dl>`) +
    (Object.keys(uses).length ? box("digests", listed(uses)) : "") +
    (facts.versions ? box("versions", listed(facts.versions)) : "");
}

const part = (heading, inside) => `<section><h3>${heading}</h3>${inside}</section>`;

function dossier(place) {
  const cell = measured.cells[place], facts = cost.facts[place];
  const names = Object.keys(cell.curves);
  const rank = name => ORDER.indexOf(name) < 0 ? ORDER.length : ORDER.indexOf(name);
  names.sort((a, b) => rank(a) - rank(b) || words.compare(a, b));
  const drawn = names.filter(name => cell.curves[name][1].length > 1);
  const single = names.filter(name => cell.curves[name][1].length === 1)
    .map(name => `${plain(name)} ${short(cell.curves[name][1][0])}`);
  const charts = drawn.map(name => {
    const [xs, ys] = cell.curves[name];
    return chart(name, measured.shared[xs], ys, cell.epochs);
  });
  const once = single.length
    ? `<p class="look">One value only: ${escaped(single.join(", "))}.</p>` : "";
  const settings = Object.entries(cell.settings)
    .map(([name, spot]) => box(name, listed(measured.shared[spot])));
  const machine = cost.headings.map((heading, i) => [heading, cost.rows[place][i]])
    .filter(([, text]) => text !== NOTHING);
  const spent = {...Object.fromEntries(machine)};
  for (const name of ["device", "threads"]) {
    if (facts.cost?.[name] !== undefined) spent[name] = facts.cost[name];
  }
  return numbers(place) +
    (names.length ? part("Curves", `<div class="charts">${charts.join("")}</div>${once}`) : "") +
    byClass(cell) +
    (settings.length ? part("Settings", `<div class="boxes">${settings.join("")}</div>`) : "") +
    part("Cost and origin", `<div class="boxes">` +
      (Object.keys(spent).length ? box("cost", listed(spent)) : "") + origin(cell, facts) +
      "</div>") +
    part("Again", "<p>Train this cell again and compare, or look at its run:</p>" +
      `<pre><code>python -m benchmark replay ${escaped(cell.key)}</code></pre>` +
      "<pre><code>mlflow ui</code></pre>");
}

class Panel {
  constructor() {
    const button = (text, label, act) => {
      const made = element("button", {type: "button", textContent: text, title: label});
      made.setAttribute("aria-label", label);
      made.addEventListener("click", act);
      return made;
    };
    this.before = button("←", "Previous cell (arrow left)", () => this.step(-1));
    this.after = button("→", "Next cell (arrow right)", () => this.step(1));
    this.spot = element("span", {className: "spot"});
    this.title = element("h2", {id: "cell-title", tabIndex: -1});
    this.inside = element("div", {className: "dossier"});
    this.dialog = element("dialog", {},
      element("div", {className: "bar"}, this.spot, this.before, this.after,
        button("✕", "Close (Esc)", () => this.dialog.close())),
      this.title, this.inside);
    this.dialog.setAttribute("aria-labelledby", "cell-title");
    this.dialog.addEventListener("close", () => this.closed());
    this.dialog.addEventListener("click", event => {
      if (event.target === this.dialog) this.dialog.close();
    });
    this.dialog.addEventListener("keydown", event => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
      if (by) this.step(by);
    });
    document.body.append(this.dialog);
  }

  open(place) {
    const cell = measured.cells[place];
    this.place = place;
    const tone = cell.state === "done" ? "good" : "bad";
    this.title.replaceChildren(cell.label, " ",
      element("span", {className: `verdict ${tone}`, textContent: cell.state}));
    this.inside.innerHTML = dossier(place);
    for (const figure of this.inside.querySelectorAll("figure.chart")) {
      const [xs, ys] = cell.curves[figure.dataset.curve];
      follows(figure, measured.shared[xs], ys);
    }
    for (const span of this.inside.querySelectorAll(".groups span")) {
      span.style.flexGrow = span.dataset.size;
    }
    const spoken = this.inside.querySelector("output.class");
    this.inside.querySelector(".bars")?.addEventListener("pointerover", event => {
      const title = event.target.closest("g")?.querySelector("title");
      spoken.textContent = title?.textContent ?? "\u00a0";
    });
    const at = cells.order.indexOf(place);
    this.spot.textContent = at < 0 ? "" : `${at + 1} of ${cells.order.length}`;
    this.before.disabled = at <= 0;
    this.after.disabled = at < 0 || at === cells.order.length - 1;
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
    this.title.focus();
  }

  step(by) {
    const next = cells.order[cells.order.indexOf(this.place) + by];
    if (next === undefined || !cells.order.includes(this.place)) return;
    remember(`cell-${measured.cells[next].key}`);
    this.open(next);
  }

  close() {
    this.quiet = true;
    if (this.dialog.open) this.dialog.close();
    else this.quiet = false;
  }

  // The focus goes back to where it was; in the table of cells, to the cell looked at last.
  closed() {
    if (this.dialog.open) return;  // opened again before the event came
    if (!this.quiet) remember();
    this.quiet = false;
    if (document.activeElement?.closest("table.cells")) {
      cells.reach(this.place).querySelector("a").focus();
    }
    this.inside.replaceChildren();
  }
}

const panel = new Panel();
follow();
