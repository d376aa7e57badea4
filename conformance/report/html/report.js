// SPDX-License-Identifier: GPL-2.0-only
// Conveniences. Without them the page says the same.
"use strict";

const $ = (selector) => document.querySelector(selector);
const all = (selector) => document.querySelectorAll(selector);

function make(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// A drawer closes with Escape or a click beside it, and what opened it has the focus again. No element has the id `-`.
let opener = null;
function close() {
  if (!$(".cell:has(:target)")) return;
  location.hash = "-";
  if (opener) opener.focus({ preventScroll: true });
}
document.addEventListener("keydown", (event) => event.key === "Escape" && close());
document.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  if (link && link.closest(".matrix")) opener = link;
  else if (link && link.classList.contains("close")) { event.preventDefault(); close(); }
  else if (!link && !event.target.closest(".cell:has(:target)")) close();
});

// Every case has the anchor `group/name`; a kernel behind it, `@kernel`, has its own only where there is more to say.
function arrive() {
  const name = location.hash.slice(1);
  if (name.startsWith("compare=")) return;
  const target = document.getElementById(name);
  if (!target && name.includes("@")) location.replace(`#${name.slice(0, name.lastIndexOf("@"))}`);
  const drawer = target && target.closest(".cell");
  if (drawer) target.focus({ preventScroll: true });
}
addEventListener("hashchange", arrive);
arrive();

// Which kernels are compared is in the address, `#compare=SLUG..SLUG`, so that it can be sent to somebody.
const chosen = (name) => $(`.compare [name=${name}]:checked`).value;
function compared() {
  const asked = /^#compare=(.*)\.\.(.*?)(&varying)?$/.exec(decodeURIComponent(location.hash));
  if (!asked || !$(".compare")) return;
  for (const [name, slug] of [["one", asked[1]], ["two", asked[2]]]) {
    for (const input of all(`.compare [name=${name}]`)) input.checked = input.value === slug;
    if (!$(`.compare [name=${name}]:checked`)) $(`.compare [name=${name}]`).checked = true;
  }
  $("#varying").checked = Boolean(asked[3]);
}
if ($(".compare")) {
  $(".compare").addEventListener("change", () => {
    const said = `${chosen("one")}..${chosen("two")}${$("#varying").checked ? "&varying" : ""}`;
    if (said !== ".." || location.hash.startsWith("#compare=")) location.replace(`#compare=${encodeURI(said)}`);
  });
}
addEventListener("hashchange", compared);
compared();

// The page prints each reason once, at its end. An opened case shows its reasons itself.
document.addEventListener("toggle", ({ target }) => {
  for (const why of target.matches(":is(.b details, .cell)[open]") ? target.querySelectorAll(".why") : []) {
    const reasons = why.textContent.match(/\d+/g).map((number) => $(`#r${number}`).cloneNode(true).childNodes);
    why.replaceChildren(...reasons.flatMap((nodes, number) => (number ? ["; ", ...nodes] : [...nodes])));
    why.className = "";
  }
}, true);

// Commands can be copied where the browser allows it.
if (navigator.clipboard) {
  for (const line of all(".repeat")) {
    const button = make("button", { type: "button", textContent: "Copy" });
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(line.querySelector("code").textContent);
      button.textContent = "Copied";
    });
    line.append(" ", button);
  }
}

// Cases can be looked for by any part of their name, or by what was seen. Enter leads to the first hit, then to the next.
const search = make("input", { type: "search", placeholder: "Find a case", autocomplete: "off" });
search.setAttribute("aria-label", "Find a case by a part of its name, or by what was seen");
const found = make("span", {});
found.setAttribute("role", "status");
const item = make("li", { className: "find" });
item.append(search, found);
$("nav ul").append(item);

const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);
const holds = (part) => words().every((word) => part.textContent.toLowerCase().includes(word));
let hits = [];
let at = -1;

search.addEventListener("input", () => {
  const looking = words().length > 0;
  const parts = [...all(".b, .cell, .drawer")];
  for (const part of parts) part.hidden = !holds(part);
  hits = looking ? parts.filter((part) => !part.hidden) : [];
  at = -1;
  for (const outer of all(".question, .words")) {
    outer.open = looking && outer.querySelector(":is(.b, .cell):not([hidden])") !== null;
  }
  for (const outer of all(".question, .words, .finding, main > section")) {
    outer.hidden = looking && !outer.querySelector(":is(.b, .cell, .drawer):not([hidden])");
  }
  for (const old of all(".hit")) old.classList.remove("hit");
  const cases = hits.flatMap((part) => [...part.querySelectorAll(".cases li")].filter(holds)).length;
  const rows = `${hits.length || "no"} row${hits.length === 1 ? "" : "s"}`;
  found.textContent = looking ? `${rows}${cases ? `, ${cases} case${cases === 1 ? "" : "s"}` : ""}` : "";
});

// Open all that a hit is in and the hit itself, and show the case in it whose name holds the words, if there is one.
function visit(part) {
  for (const old of all(".hit")) old.classList.remove("hit");
  for (let outer = part; outer; outer = outer.parentElement) {
    if (outer.tagName === "DETAILS" && !outer.classList.contains("cell")) outer.open = true;
  }
  for (const inner of part.querySelectorAll(":scope > tr > td > details")) inner.open = true;
  const place = [...part.querySelectorAll(".cases li")].find(holds) || part;
  place.classList.add("hit");
  place.scrollIntoView({ block: "center" });
}

search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || hits.length === 0) return;
  event.preventDefault();
  at = (at + (event.shiftKey ? hits.length - 1 : 1)) % hits.length;
  visit(hits[at]);
  found.textContent = `${at + 1} of ${hits.length} row${hits.length === 1 ? "" : "s"}`;
});

// On paper nothing can be opened, so all unexpected cases are printed open.
addEventListener("beforeprint", () => {
  for (const each of all("#unexpected ~ .finding :is(.more, .drawer)")) each.open = true;
});
