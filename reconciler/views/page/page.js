"use strict";
// The page of a plan. Data stands in blocks of JSON lines, which are read when they are looked at. Only what is in sight is drawn, and
// searching pauses often, so that a hundred thousand changes stay smooth. Text of the plan reaches the page by textContent alone.

const ROW = 28, CHUNK = 1000, SLICE = 12, WIDEST = 60;
const UNSEEN = new RegExp(
  "[\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f" +
  "\\u200b-\\u200f\\u2028-\\u202f\\u205f-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffc\\ufffe\\uffff]", "g");

// What the eye would not see, spelled out.
function plain(text) {
  return text.replace(UNSEEN, (c) => ({ "\n": "\\n", "\r": "\\r", "\t": "\\t" })[c] || "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).sort().map((name) => [name, sorted(value[name])]));
}

// A value for the eye: null is NULL, and text that could be taken for it stands in quotes.
function shown(value) {
  if (value === null || value === undefined) return null;
  if (typeof value !== "string") return JSON.stringify(sorted(value));
  return value === "null" || value === "" || value !== value.trim() ? JSON.stringify(value) : value;
}

// Two texts as [same, gone, come, same].
function parts(before, after) {
  const least = Math.min(before.length, after.length);
  let head = 0, tail = 0;
  while (head < least && before[head] === after[head]) head++;
  while (tail < least - head && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail++;
  const cut = (text) => text.slice(head, text.length - tail);
  return [before.slice(0, head), cut(before), cut(after), before.slice(before.length - tail)];
}

// The columns in which a change differs, each with before and after; of what comes or goes all of them.
function cells(change, step) {
  const before = change.before || {}, after = change.after || {};
  let names = Object.keys(change.after === null ? before : after);
  if (change.before !== null && change.after !== null && step.whole) {
    names = [...new Set([...Object.keys(before), ...names])].filter((n) => JSON.stringify(sorted(before[n])) !== JSON.stringify(sorted(after[n])) || n in before !== n in after);
  }
  return names.sort().map((name) => {
    const hidden = step.sensitive.includes(name);
    return {
      name,
      before: change.before === null ? undefined : hidden ? "(sensitive)" : shown(before[name]),
      after: change.after === null ? undefined : hidden ? "(sensitive)" : shown(after[name]),
    };
  });
}

// Whether a change holds a word, in its key, its reason or a value; columns by their name.
function holds(change, step, word) {
  const has = (value) => value !== null && value !== undefined && value.toLowerCase().includes(word);
  return change.key.some(has) || has(change.reason) || (change.kept && change.kept.key.some(has)) ||
    cells(change, step).some((cell) => has(cell.name) || has(cell.before) || has(cell.after));
}

// As a word stands in a block of JSON: enough to leave most lines unread.
function needle(word) {
  return JSON.stringify(word).slice(1, -1).replace(UNSEEN, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"))
    .replace(/[<>&]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0")).toLowerCase();
}

// Lines of one text that come and go beside those of another; of very long texts both as they are.
function lines(before, after) {
  const a = before === null ? [] : before.split("\n"), b = after === null ? [] : after.split("\n");
  if (a.length * b.length > 250000) return [...a.map((t) => ["-", t]), ...b.map((t) => ["+", t])];
  const most = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) for (let j = b.length - 1; j >= 0; j--)
    most[i][j] = a[i] === b[j] ? most[i + 1][j + 1] + 1 : Math.max(most[i + 1][j], most[i][j + 1]);
  const out = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { out.push([" ", a[i]]); i++; j++; }
    else if (j >= b.length || (i < a.length && most[i + 1][j] >= most[i][j + 1])) out.push(["-", a[i++]]);
    else out.push(["+", b[j++]]);
  }
  return out;
}

if (typeof module !== "undefined") module.exports = { plain, shown, parts, cells, holds, needle, lines };
else start();

function start() {
  const $ = (id) => document.getElementById(id);
  const steps = JSON.parse($("steps").textContent);
  const blocks = [...document.querySelectorAll("script.changes")];
  let total = 0, block = 0;
  for (const step of steps) {
    step.first = total; step.block = block;
    total += step.count; block += Math.ceil(step.count / CHUNK);
  }
  const read = new Map(), parsed = new Map();

  function block_lines(n) {
    if (!read.has(n)) read.set(n, blocks[n].textContent.trim().split("\n"));
    return read.get(n);
  }
  function place(index) {
    let low = 0, high = steps.length - 1;
    while (low < high) { const middle = (low + high + 1) >> 1; if (steps[middle].first <= index) low = middle; else high = middle - 1; }
    const step = steps[low], at = index - step.first;
    return { step, block: step.block + Math.floor(at / CHUNK), line: at % CHUNK };
  }
  function change(index) {
    if (!parsed.has(index)) {
      if (parsed.size > 5000) parsed.clear();
      const at = place(index);
      parsed.set(index, JSON.parse(block_lines(at.block)[at.line]));
    }
    return parsed.get(index);
  }

  function element(name, type, text) {
    const it = document.createElement(name);
    if (type) it.className = type;
    if (text !== undefined && text !== null) it.textContent = text;
    return it;
  }

  // Filters: a step, a resource, verbs, words. `found` are the numbers of the changes that pass.
  const state = { step: null, resource: "", verbs: null, words: [], found: new Uint32Array(0), count: 0, active: 0, run: 0 };
  const grid = $("grid"), body = $("body"), head = $("head"), status = $("status"), detail = $("detail");

  function passes(step, n) {
    return (state.step === null || state.step === n) && (!state.resource || step.address === state.resource) && (!state.verbs || state.verbs.has(step.verb));
  }

  function filter() {
    const run = ++state.run;
    const chosen = steps.filter(passes);
    const found = new Uint32Array(chosen.reduce((sum, step) => sum + step.count, 0));
    state.found = found; state.count = 0; state.active = 0;
    grid.scrollTop = 0;
    close_detail();
    if (!state.words.length) {
      let at = 0;
      for (const step of chosen) for (let n = 0; n < step.count; n++) found[at++] = step.first + n;
      state.count = at;
      told(true); draw();
      return;
    }
    const needles = state.words.map(needle);
    let s = 0, n = 0;
    (function slice() {
      if (run !== state.run) return;
      const until = performance.now() + SLICE;
      while (s < chosen.length && performance.now() < until) {
        const step = chosen[s];
        const lines = block_lines(step.block + Math.floor(n / CHUNK));
        for (const stop = Math.min(step.count, n + 200); n < stop; n++) {
          const line = lines[n % CHUNK].toLowerCase();
          if (needles.every((it) => line.includes(it))) {
            const it = change(step.first + n);
            if (state.words.every((word) => holds(it, step, word))) found[state.count++] = step.first + n;
          }
          if ((n + 1) % CHUNK === 0) { n++; break; }
        }
        if (n >= step.count) { s++; n = 0; }
      }
      const done = s >= chosen.length;
      told(done); draw();
      if (!done) setTimeout(slice);
    })();
  }

  function told(done) {
    status.textContent = (done ? "" : "searching … ") + state.count.toLocaleString("en") + " of " + total.toLocaleString("en") + " changes";
    status.dataset.done = done;
    document.querySelectorAll("[data-step]").forEach((it) => {
      const chosen = state.step !== null && Number(it.dataset.step) === state.step;
      it.classList.toggle("chosen", chosen);
      if (it.getAttribute("role") === "button") it.setAttribute("aria-pressed", chosen);
    });
    $("clear").disabled = state.step === null && !state.resource && !state.verbs && !state.words.length;
  }

  function columns() {
    if (state.step === null) return null;
    return steps[state.step].columns.slice(0, WIDEST);
  }

  function value(into, text, type) {
    if (text === null) into.append(element(type || "span", type ? "" : "null", "null"));
    else into.append(element(type || "span", "", plain(text)));
  }

  // One cell: what was and what will be, with the part that differs marked.
  function fill(into, cell, most) {
    const cut = (text) => text !== null && text !== undefined && text.length > most ? text.slice(0, most) + "…" : text;
    if (cell.before === undefined) return value(into, cut(cell.after), "ins");
    if (cell.after === undefined) return value(into, cut(cell.before), "del");
    if (cell.before === null || cell.after === null) {
      value(into, cut(cell.before), "del"); into.append(" → "); value(into, cut(cell.after), "ins");
      return undefined;
    }
    let [start, gone, come, end] = parts(cell.before, cell.after);
    if (start.length > 20 && most < 1000) start = "…" + start.slice(-18);
    if (start) into.append(element("span", "", plain(start)));
    if (gone) value(into, cut(gone), "del");
    if (come) value(into, cut(come), "ins");
    if (end) into.append(element("span", "", plain(cut(end))));
    return undefined;
  }

  function row(position) {
    const index = state.found[position], { step } = place(index), it = change(index);
    const line = element("div", "row" + (position === state.active ? " active" : ""));
    line.id = "row-" + position;
    line.setAttribute("role", "row");
    line.setAttribute("aria-rowindex", position + 2);
    line.setAttribute("aria-selected", position === state.active);
    line.style.transform = "translateY(" + position * ROW + "px)";
    line.dataset.position = position;
    const add = (type) => { const cell = element("div", "cell " + type); cell.setAttribute("role", "gridcell"); line.append(cell); return cell; };
    add("verb").append(element("span", step.tone, step.glyph + " " + step.verb));
    const names = columns(), list = cells(it, step);
    if (!names) add("what").textContent = step.target;
    add("what key").textContent = plain(it.key.join(", "));
    if (names) {
      const by = new Map(list.map((cell) => [cell.name, cell]));
      add("why").textContent = plain(it.reason);
      for (const name of names) { const cell = add(""); if (by.has(name)) fill(cell, by.get(name), 200); }
    } else {
      add("why").textContent = plain(it.reason);
      const all = add("values");
      for (const cell of list.slice(0, 8)) { all.append(element("span", "soft", plain(cell.name) + ": ")); fill(all, cell, 80); all.append("  "); }
    }
    return line;
  }

  function draw() {
    const names = columns();
    const heads = names ? ["verb", "key", "why", ...names] : ["verb", "target", "key", "why", "values"];
    head.replaceChildren(...heads.map((name, n) => {
      const type = n === 0 ? "verb" : names ? ["", "what", "why"][n] || "" : ["", "what", "what", "why", "values"][n];
      const cell = element("div", "cell " + type, plain(name));
      cell.setAttribute("role", "columnheader");
      return cell;
    }));
    grid.setAttribute("aria-rowcount", state.count + 1);
    body.style.height = state.count * ROW + "px";
    body.style.minHeight = ROW * Math.min(8, total) + "px";
    const from = Math.max(0, Math.floor(grid.scrollTop / ROW) - 8);
    const to = Math.min(state.count, from + Math.ceil(grid.clientHeight / ROW) + 16);
    const drawn = [];
    for (let n = from; n < to; n++) drawn.push(row(n));
    body.replaceChildren(...drawn);
    body.style.width = head.scrollWidth + "px";
    if (state.active >= from && state.active < to) grid.setAttribute("aria-activedescendant", "row-" + state.active);
    else grid.removeAttribute("aria-activedescendant");
  }

  function go(position) {
    if (!state.count) return;
    state.active = Math.max(0, Math.min(state.count - 1, position));
    const top = state.active * ROW, room = grid.clientHeight - ROW * 2;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top > grid.scrollTop + room) grid.scrollTop = top - room;
    draw();
    if (!detail.hidden) open_detail();
  }

  function open_detail() {
    if (!state.count) return;
    const index = state.found[state.active], { step } = place(index), it = change(index);
    const top = element("p");
    top.append(element("span", step.tone, step.glyph + " " + step.verb + " "), element("code", "", step.target), " ", element("code", "", plain(it.key.join(", "))), " ", element("span", "soft", plain(it.reason)));
    const parts_of = [top];
    if (it.kept) parts_of.push(element("p", "soft", plain("stays: " + it.kept.key.join(", ") + " (" + shown(it.kept.over) + " → " + shown(it.kept.has) + ")")));
    const sql = (image) => image && typeof image.sql === "string" ? image.sql : null;
    if (sql(it.before) !== null || sql(it.after) !== null) {
      const pre = element("pre");
      for (const [sign, text] of lines(sql(it.before), sql(it.after)))
        pre.append(element(sign === "+" ? "ins" : sign === "-" ? "del" : "span", "", sign + " " + text.split("\t").map(plain).join("    ") + "\n"));
      parts_of.push(pre);
    } else {
      const table = element("table"), body = element("tbody"), first = element("tr");
      for (const name of ["column", "before", "after"]) first.append(element("th", "", name));
      const top_of = element("thead"); top_of.append(first);
      const changed = cells(it, step), names = new Set(changed.map((cell) => cell.name));
      const rest = it.before === null || it.after === null ? [] : Object.keys(it.before).filter((n) => !names.has(n)).sort();
      for (const cell of changed) {
        const line = element("tr"), was = element("td", "mono"), will = element("td", "mono");
        line.append(element("th", "", plain(cell.name)), was, will);
        if (cell.before !== undefined && cell.after !== undefined && cell.before !== null && cell.after !== null) {
          const [start, gone, come, end] = parts(cell.before, cell.after);
          for (const [into, middle, type] of [[was, gone, "del"], [will, come, "ins"]]) {
            into.append(element("span", "", plain(start)));
            if (middle) into.append(element(type, "", plain(middle)));
            into.append(element("span", "", plain(end)));
          }
        } else {
          if (cell.before !== undefined) value(was, cell.before, "del");
          if (cell.after !== undefined) value(will, cell.after, "ins");
        }
        body.append(line);
      }
      for (const name of rest) {
        const line = element("tr"), was = element("td", "mono soft"), same = element("td", "soft", "as before");
        value(was, step.sensitive.includes(name) ? "(sensitive)" : shown(it.before[name]));
        line.append(element("th", "soft", plain(name)), was, same);
        body.append(line);
      }
      table.append(top_of, body);
      parts_of.push(table);
    }
    detail.replaceChildren(...parts_of);
    detail.hidden = false;
    detail.scrollIntoView({ block: "nearest" });
  }
  function close_detail() { detail.hidden = true; }

  // What was asked for
  function choose(n) {
    state.step = state.step === n ? null : n;
    $("step").value = state.step === null ? "" : state.step;
    filter();
    if (state.step !== null) $("changes").scrollIntoView({ block: "start" });
  }
  for (const [n, step] of steps.entries()) {
    const option = element("option", "", step.glyph + " " + step.verb + " " + step.target + " (" + step.count.toLocaleString("en") + ")");
    option.value = n;
    $("step").append(option);
  }
  for (const address of [...new Set(steps.map((step) => step.address))]) {
    const option = element("option", "", address);
    option.value = address;
    $("resource").append(option);
  }
  for (const verb of [...new Set(steps.map((step) => step.verb))]) {
    const label = element("label", "check"), box = element("input");
    box.type = "checkbox"; box.checked = true; box.value = verb;
    label.append(box, " " + verb);
    $("verbs").append(label);
  }
  $("step").addEventListener("change", (event) => { state.step = event.target.value === "" ? null : Number(event.target.value); filter(); });
  $("resource").addEventListener("change", (event) => { state.resource = event.target.value; filter(); });
  $("verbs").addEventListener("change", () => {
    const boxes = [...$("verbs").querySelectorAll("input")], on = boxes.filter((box) => box.checked);
    state.verbs = on.length === boxes.length ? null : new Set(on.map((box) => box.value));
    filter();
  });
  let typing = 0;
  $("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean); filter(); }, 120);
  });
  $("clear").addEventListener("click", () => {
    Object.assign(state, { step: null, resource: "", verbs: null, words: [] });
    $("search").value = ""; $("step").value = ""; $("resource").value = "";
    $("verbs").querySelectorAll("input").forEach((box) => { box.checked = true; });
    filter();
  });
  document.addEventListener("click", (event) => {
    const it = event.target.closest("[data-step]");
    if (it && it.closest("button, .node") && !moved) choose(Number(it.dataset.step));
  });
  document.addEventListener("keydown", (event) => {
    const node = event.target.closest && event.target.closest(".node");
    if (node && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); choose(Number(node.dataset.step)); }
    if (event.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) { event.preventDefault(); $("search").focus(); }
    if (event.key === "Escape") close_detail();
  });

  // The list
  let waiting = false;
  grid.addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } });
  addEventListener("resize", draw);
  body.addEventListener("click", (event) => {
    const line = event.target.closest(".row");
    if (line) { state.active = Number(line.dataset.position); draw(); open_detail(); }
  });
  grid.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 2);
    const to = { ArrowDown: state.active + 1, ArrowUp: state.active - 1, PageDown: state.active + page, PageUp: state.active - page, Home: 0, End: state.count - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); go(to); }
    if (event.key === "Enter") { event.preventDefault(); open_detail(); }
  });

  // The graph: wheel and buttons to zoom, drag and arrows to move
  const svg = document.querySelector("#graph svg");
  let moved = false;
  if (svg) {
    const whole = svg.viewBox.baseVal, box = { x: whole.x, y: whole.y, w: whole.width, h: whole.height }, all = { ...box };
    const show = () => svg.setAttribute("viewBox", [box.x, box.y, box.w, box.h].join(" "));
    const zoom = (by, x, y) => {
      const w = Math.min(all.w * 2, Math.max(120, box.w * by)), h = box.h * w / box.w;
      box.x += (box.w - w) * x; box.y += (box.h - h) * y; box.w = w; box.h = h;
      show();
    };
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.shiftKey) return; // the page scrolls as ever
      event.preventDefault();
      const at = svg.getBoundingClientRect();
      zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, (event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height);
    }, { passive: false });
    let drag = null;
    svg.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY, bx: box.x, by: box.y }; moved = false; });
    addEventListener("pointermove", (event) => {
      if (!drag) return;
      const at = svg.getBoundingClientRect(), scale = Math.max(box.w / at.width, box.h / at.height);
      const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
      if (Math.abs(dx) + Math.abs(dy) > 4) moved = true;
      if (moved) { box.x = drag.bx - dx * scale; box.y = drag.by - dy * scale; show(); }
    });
    addEventListener("pointerup", () => { drag = null; setTimeout(() => { moved = false; }); });
    $("in").addEventListener("click", () => zoom(1 / 1.4, .5, .5));
    $("out").addEventListener("click", () => zoom(1.4, .5, .5));
    $("fit").addEventListener("click", () => { Object.assign(box, all); show(); });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (step) { event.preventDefault(); box.x += step[0] * box.w / 10; box.y += step[1] * box.h / 10; show(); }
      if (event.key === "+") zoom(1 / 1.4, .5, .5);
      if (event.key === "-") zoom(1.4, .5, .5);
    });
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((it) => { it.open = true; }));

  filter();
  document.documentElement.dataset.ready = "true";
}
