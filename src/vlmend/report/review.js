"use strict";
// The page holds rows and pictures as inert text. What a model wrote is only ever set as text, never as markup.
const PER_PAGE = 25;
const about = JSON.parse(document.getElementById("about").textContent);
const rows = [];
for (const block of document.querySelectorAll("script.rows")) {
  rows.push(...JSON.parse(block.textContent));
  block.remove();
}
const byId = new Map(rows.map((row, place) => [row.id, place]));
const decisions = new Map();
const undone = new Map(); // decisions that were taken back, so that a file of older ones does not bring them again
const unveiled = new Set(); // numbers of pictures
const LABELS = {prompt: "Request", answer: "Answer", chosen: "Better answer", rejected: "Worse answer",
  reasoning: "Reasoning", category: "Category", subcategory: "Sub-category"};
const DONE = {accept: "accepted", reject: "rejected", edit: "edited"};
const $ = (id) => document.getElementById(id);
let shown = [];      // places of the rows that pass the filters, in order
let cursor = 0;      // place among them
let showAll = false; // pictures of every row
let editing = "";    // id of the row that is being edited

// What is decided, kept in the browser one entry a row, so that a decision costs the same however many there are.
const prefix = `vlmend-review:${about.run}:`;
const memory = {
  get(key) { try { return localStorage.getItem(prefix + key); } catch { return null; } },
  set(key, value) {
    try { localStorage.setItem(prefix + key, value); }
    catch { notify("This browser keeps no more: save the decisions as a file before you close the page."); }
  },
  keys() {
    try { return Object.keys(localStorage).filter((k) => k.startsWith(prefix)).map((k) => k.slice(prefix.length)); }
    catch { notify("This browser keeps nothing for files: save the decisions before you close the page."); return []; }
  },
};

function notify(text) { $("notice").textContent = text; $("notice").hidden = !text; }

function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function fieldsOf(row) { return about.fields[row.kind]; }
function textOf(row, key) { return decisions.get(row.id)?.changed?.[key] ?? row[key]; }

// Filters.
const NONE = "\u0000none";
const searched = new Map();
function haystack(row) {
  if (!searched.has(row.id)) {
    const texts = [row.id, row.set, row.status, ...row.why, row.said || "", ...(row.more || []), ...fieldsOf(row).map((key) => textOf(row, key)),
      ...row.turns.flatMap((turn) => turn.parts.filter((part) => typeof part === "string"))];
    searched.set(row.id, texts.join("\n").toLowerCase());
  }
  return searched.get(row.id);
}

function passes(row, want, words) {
  const decided = decisions.get(row.id)?.decision || NONE;
  return (!want.set || row.set === want.set)
    && (!want.status || row.status === want.status)
    && (!want.category || (textOf(row, "category") || NONE) === want.category)
    && (!want.decision || decided === want.decision)
    && words.every((word) => haystack(row).includes(word));
}

function filter() {
  const want = Object.fromEntries(["set", "status", "category", "decision"].map((key) => [key, $(key).value]));
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const here = shown[cursor];
  shown = [];
  for (let place = 0; place < rows.length; place++) if (passes(rows[place], want, words)) shown.push(place);
  cursor = Math.max(0, shown.indexOf(here));
  editing = "";
  draw();
}

function choices(id, title, values, names = {}) {
  const tally = new Map();
  for (const value of values) tally.set(value || NONE, (tally.get(value || NONE) || 0) + 1);
  const options = [...tally].sort(([a], [b]) => a < b ? -1 : 1)
    .map(([value, count]) => node("option", {value}, `${names[value] || (value === NONE ? "none" : value)} (${count.toLocaleString("en")})`));
  $(id).replaceChildren(node("option", {value: ""}, title), ...options);
}

// Drawing: one page of rows at a time, pictures decoded as they come into view.
function picture(number, role) {
  const source = $("p" + number)?.textContent;
  if (!source) return node("div", {class: "gone"}, "picture not available");
  const veiled = !(showAll || unveiled.has(number));
  const image = node("img", {alt: veiled ? "blurred picture" : "picture", decoding: "async", loading: "lazy", src: source});
  image.addEventListener("load", () => image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= 128));
  const frame = node("button", {class: veiled ? "picture veiled" : "picture", type: "button", "data-picture": number,
    "aria-label": veiled ? "Show the picture" : "Blur the picture", onclick: () => veil([number], unveiled.has(number))},
    image, node("span", {class: "ask"}, "Blurred. Tap to see."));
  if (role) frame.append(node("span", {class: "role"}, role));
  return frame;
}

function veil(numbers, hide) {
  for (const number of numbers) {
    if (hide) unveiled.delete(number); else unveiled.add(number);
    for (const frame of document.querySelectorAll(`[data-picture="${number}"]`)) frame.classList.toggle("veiled", hide && !showAll);
  }
}

function saidBlock(row, key) {
  const text = textOf(row, key);
  const changed = text !== row[key];
  const block = node("div", {}, node("h2", {}, LABELS[key], ...(changed ? [" ", node("b", {}, "edited")] : [])),
    node("p", {class: key === "prompt" ? "said prompt" : "said"}, text || "(nothing)"));
  if (changed) block.append(fold("As it was drafted", node("p", {class: "said"}, row[key] || "(nothing)")));
  return block;
}

function fold(title, ...inside) { return node("details", {}, node("summary", {}, title), ...inside); }

function editor(row) {
  const form = node("form", {onsubmit: (event) => { event.preventDefault(); commit(row, form); }});
  for (const key of fieldsOf(row)) {
    const short = key.endsWith("category");
    if (key === "reasoning" && !row.reasoning) continue;
    const input = short ? node("input", {name: key, list: key === "category" ? "categories" : false}) : node("textarea", {name: key});
    input.value = textOf(row, key);
    form.append(node("h2", {}, LABELS[key]), input);
    input.setAttribute("aria-label", LABELS[key]);
  }
  form.append(node("div", {class: "verbs"}, node("button", {type: "submit", "data-verb": "keep"}, "Keep the edit"),
    node("button", {type: "button", "data-verb": "drop", onclick: () => { editing = ""; redraw(row); }}, "Drop it"),
    node("span", {class: "soft keys"}, node("kbd", {}, "Ctrl"), " ", node("kbd", {}, "Enter"), " keeps, ", node("kbd", {}, "Esc"), " drops")));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.preventDefault(); editing = ""; redraw(row); }
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); commit(row, form); }
  });
  return form;
}

function tags(row) {
  const made = decisions.get(row.id);
  const list = [[row.status, row.status === "kept" ? "good" : "bad"], ...row.why.filter((why) => why !== row.status).map((why) => [why, "bad"]), [row.set, ""],
    [textOf(row, "category"), ""], [textOf(row, "subcategory"), ""], [row.subset === row.set ? "" : row.subset, ""], [about.wanted[row.expected] || "", ""]];
  if (made) list.push([DONE[made.decision] + (made.by ? ` by ${made.by}` : ""), made.decision === "reject" ? "bad" : "good"]);
  return node("ul", {class: "tags"}, ...list.filter(([text]) => text).map(([text, tone]) => node("li", {class: `tag ${tone}`}, text)));
}

function card(row, index) {
  const made = decisions.get(row.id);
  const numbers = row.turns.flatMap((turn) => turn.parts.filter((part) => typeof part === "number"));
  const frames = [...numbers.map((number) => picture(number, "")), ...(row.other || []).map((number) => picture(number, "with the worse answer"))];
  const body = node("div", {}, tags(row));
  const earlier = row.turns.slice(0, -1).map((turn) => [turn.role, turn.parts.filter((part) => typeof part === "string").join("\n")]);
  for (const [role, text] of earlier) if (text) body.append(node("h2", {}, role), node("p", {class: "said"}, text));
  if (editing === row.id) body.append(editor(row));
  else {
    for (const key of fieldsOf(row)) {
      if (key.endsWith("category")) continue;
      if (key === "reasoning") { if (row.reasoning) body.append(fold("Reasoning", saidBlock(row, key))); }
      else body.append(saidBlock(row, key));
    }
    if (row.kind === "text") body.append(node("h2", {}, "What was said"), node("p", {class: "said"}, row.said || "(nothing)"));
    const verb = (name, title) => node("button", {type: "button", "data-verb": name, "aria-pressed": String(made?.decision === name),
      onclick: () => { cursor = index; act(name); }}, title);
    if (row.kind !== "text") body.append(node("div", {class: "verbs"}, verb("accept", "Accept"), verb("reject", "Reject"), verb("edit", "Edit"),
      ...(made ? [node("button", {type: "button", "data-verb": "undo", onclick: () => { cursor = index; act("undo"); }}, "Undo")] : [])));
  }
  if (row.more?.length) body.append(fold(`Other answers that count as right (${row.more.length})`, ...row.more.map((text) => node("p", {class: "said"}, text))));
  const facts = Object.entries(row.provenance).flatMap(([key, value]) => [node("dt", {}, key), node("dd", {}, value)]);
  body.append(fold("How it was made", node("dl", {}, node("dt", {}, "id"), node("dd", {}, row.id), ...facts)));
  const classes = ["item", made?.decision || "", index === cursor ? "current" : "", frames.length ? "" : "plain"];
  return node("article", {class: classes.filter(Boolean).join(" "), tabindex: "-1", "data-id": row.id, "aria-label": `Row ${row.id}`,
    onclick: () => point(index)},
    ...(frames.length ? [node("div", {class: "pictures"}, ...frames)] : []), body);
}

function draw(scroll = false) {
  const first = Math.floor(cursor / PER_PAGE) * PER_PAGE;
  const cards = shown.slice(first, first + PER_PAGE).map((place, offset) => card(rows[place], first + offset));
  $("items").replaceChildren(...(cards.length ? cards : [node("p", {class: "empty"}, rows.length ? "No row passes these filters." : "There are no rows.")]));
  const last = Math.min(shown.length, first + PER_PAGE);
  $("page").textContent = shown.length ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${shown.length.toLocaleString("en")}` : "";
  $("back").disabled = first === 0;
  $("on").disabled = last >= shown.length;
  count();
  if (scroll) reveal();
}

function redraw(row) {
  const old = [...document.querySelectorAll(".item")].find((item) => item.dataset.id === row.id);
  old?.replaceWith(card(row, shown.indexOf(byId.get(row.id))));
  count();
}

function reveal() {
  const item = document.querySelector(".item.current");
  item?.scrollIntoView({block: "nearest"});
  item?.focus({preventScroll: true});
}

function count() {
  const tally = {accept: 0, reject: 0, edit: 0};
  for (const made of decisions.values()) tally[made.decision] += 1;
  const number = (value) => value.toLocaleString("en");
  $("count").textContent = `${number(decisions.size)} of ${number(rows.filter((row) => row.kind !== "text").length)} decided: ${number(tally.accept)} accepted, `
    + `${number(tally.reject)} rejected, ${number(tally.edit)} edited; ${number(shown.length)} shown`;
}

// Deciding.
function decide(row, made) {
  searched.delete(row.id);
  hold(row.id, made);
  memory.set("row:" + row.id, JSON.stringify(made));
}

function hold(id, made) {
  const [to, from] = made.decision === "undo" ? [undone, decisions] : [decisions, undone];
  from.delete(id);
  to.set(id, made);
}

function later(id, made) {
  return (made.when || "") >= ((decisions.get(id) || undone.get(id))?.when || "");
}

function now(row, decision, changed) {
  return {decision, about: row.mark, ...(changed ? {changed} : {}), by: $("by").value.trim(), when: new Date().toISOString()};
}

function act(name) {
  const row = rows[shown[cursor]];
  if (!row || row.kind === "text") return;
  if (name === "edit") {
    editing = row.id;
    draw();
    document.querySelector("form textarea, form input")?.focus();
    return;
  }
  editing = "";
  if (name === "undo" && !decisions.has(row.id)) return;
  decide(row, now(row, name));
  if (name !== "undo" && cursor < shown.length - 1) cursor += 1;
  draw(true);
}

function commit(row, form) {
  const changed = {};
  for (const key of fieldsOf(row)) {
    const input = form.elements.namedItem(key);
    const before = row[key].replace(/\r\n?/g, "\n"); // as a text field has it
    if (input && input.value !== before) changed[key] = input.value;
  }
  editing = "";
  if (Object.keys(changed).length) decide(row, now(row, "edit", changed));
  else if (decisions.get(row.id)?.decision === "edit") decide(row, now(row, "undo"));
  draw(true);
}

function point(index) {
  cursor = index;
  const first = Math.floor(cursor / PER_PAGE) * PER_PAGE;
  document.querySelectorAll(".item").forEach((item, offset) => item.classList.toggle("current", first + offset === index));
}

function move(step) {
  if (!shown.length) return;
  cursor = Math.min(shown.length - 1, Math.max(0, cursor + step));
  editing = "";
  draw(true);
}

// Decisions as a file, out and in.
function save() {
  const kept = Object.fromEntries([...decisions, ...undone].sort(([a], [b]) => a < b ? -1 : 1));
  const data = {kind: "vlmend review", version: about.version, run: about.run, by: $("by").value.trim(), saved: new Date().toISOString(), decisions: kept};
  const address = URL.createObjectURL(new Blob([JSON.stringify(data, null, 1) + "\n"], {type: "application/json"}));
  node("a", {href: address, download: `decisions-${about.run.replace(/[^\w.-]+/g, "_")}.json`}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  notify(decisions.size ? "" : "Nothing is decided yet: the file that was saved holds no decisions.");
}

function wellFormed(made, row) {
  const changed = made?.changed ?? {};
  return typeof made === "object" && made !== null && (Object.hasOwn(DONE, made.decision) || made.decision === "undo") && typeof changed === "object"
    && row.kind !== "text" && (!made.about || made.about === row.mark) && (made.decision === "edit") === (Object.keys(changed).length > 0)
    && Object.entries(changed).every(([key, text]) => fieldsOf(row).includes(key) && typeof text === "string");
}

function take(text, name) {
  let data;
  try { data = JSON.parse(text); } catch { return notify(`${name} is damaged: it is not JSON.`); }
  if (data?.kind !== "vlmend review" || typeof data.decisions !== "object") return notify(`${name} holds no decisions of a review page.`);
  if (data.version !== about.version) return notify(`${name} has version ${data.version}; this page reads ${about.version}.`);
  if (data.run !== about.run) return notify(`${name} is about ${data.run}, and this page is about ${about.run}.`);
  let taken = 0, older = 0, lost = 0;
  for (const [id, made] of Object.entries(data.decisions)) {
    const row = rows[byId.get(id)];
    if (!row || !wellFormed(made, row)) { lost += 1; continue; }
    if (!later(id, made)) { older += 1; continue; }
    decide(row, {...made, by: made.by || data.by || ""});
    taken += 1;
  }
  filter();
  notify(`${taken} decisions taken from ${name}` + (older ? `, ${older} left out because yours are later` : "")
    + (lost ? `, ${lost} left out because they do not fit this page` : "") + ".");
}

// Wiring.
const KEYS = {a: () => act("accept"), r: () => act("reject"), e: () => act("edit"), u: () => act("undo"), j: () => move(1), k: () => move(-1),
  v: () => { showAll = !showAll; draw(true); }, "/": () => $("search").focus()};
document.addEventListener("keydown", (event) => {
  const inside = event.target.closest?.("input, textarea, select");
  if (["search", "by"].includes(inside?.id) && ["Escape", "Enter"].includes(event.key)) inside.blur();
  if (inside || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});
for (const [id, made] of Object.entries(about.decisions)) {
  const row = rows[byId.get(id)];
  if (row && wellFormed(made, row)) hold(id, made);
}
for (const key of memory.keys()) {
  if (!key.startsWith("row:")) continue;
  const row = rows[byId.get(key.slice(4))];
  try {
    const made = JSON.parse(memory.get(key));
    if (row && wellFormed(made, row) && later(row.id, made)) hold(row.id, made);
  } catch { /* what is damaged was never decided */ }
}
choices("set", "Every set", rows.map((row) => row.set));
choices("status", "Every status", rows.map((row) => row.status));
choices("category", "Every category", rows.map((row) => row.category));
$("decision").replaceChildren(...[["", "Decided or not"], [NONE, "Not decided"], ["accept", "Accepted"], ["reject", "Rejected"], ["edit", "Edited"]]
  .map(([value, title]) => node("option", {value}, title)));
$("categories").replaceChildren(...[...new Set(rows.map((row) => row.category))].filter(Boolean).sort().map((value) => node("option", {value})));
for (const key of ["set", "status", "category", "decision"]) $(key).addEventListener("change", filter);
let waiting = 0;
$("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); });
$("by").value = memory.get("by") || "";
$("by").addEventListener("input", () => memory.set("by", $("by").value));
$("save").addEventListener("click", save);
$("load").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", async () => {
  for (const file of $("file").files) take(await file.text(), file.name);
  $("file").value = "";
});
$("back").addEventListener("click", () => move(-PER_PAGE - cursor % PER_PAGE));
$("on").addEventListener("click", () => move(PER_PAGE - cursor % PER_PAGE));
filter();
