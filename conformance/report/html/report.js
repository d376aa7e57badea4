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
  const target = document.getElementById(name);
  if (!target && name.includes("@")) location.replace(`#${name.slice(0, name.lastIndexOf("@"))}`);
  const drawer = target && target.closest(".cell");
  if (drawer) target.focus({ preventScroll: true });
}
addEventListener("hashchange", arrive);
arrive();

// What is told once, at the end, is told in place where somebody looks.
document.addEventListener("toggle", ({ target }) => {
  for (const why of target.matches(":is(.b details, .cell)[open]") ? target.querySelectorAll(".why") : []) {
    why.textContent = why.textContent.match(/\d+/g).map((number) => $(`#r${number}`).textContent).join("; ");
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


// Cases can be looked for by any part of their name, or by what was seen.
const search = make("input", { type: "search", placeholder: "Find a case", autocomplete: "off" });
search.setAttribute("aria-label", "Find a case by a part of its name");
const found = make("span", { className: "away" });
found.setAttribute("role", "status");
const item = make("li", { className: "find" });
item.append(search, found);
$("nav ul").append(item);
search.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const part of all(".b, .cell, .drawer")) {
    part.hidden = !words.every((word) => part.textContent.toLowerCase().includes(word));
    count += !part.hidden;
  }
  for (const outer of all(".question, .words")) {
    outer.open = Boolean(words.length) && Boolean(outer.querySelector(":is(.b, .cell):not([hidden])"));
  }
  found.textContent = words.length ? `${count} found` : "";
});

// On paper nothing can be opened: what was unexpected is told in full.
addEventListener("beforeprint", () => {
  for (const each of all("#unexpected ~ .finding :is(.more, .drawer)")) each.open = true;
});
