"use strict";
const root = document.documentElement;
let framed = null;
try { framed = window.parent !== window && window.parent.document ? window.parent.document : null; } catch { framed = null; }

// Airflow's own switch between light and dark, where this page is one of Airflow's.
function follow() {
  const names = framed ? framed.documentElement.classList : null;
  if (names && names.contains("dark")) root.dataset.theme = "dark";
  else if (names && names.contains("light")) root.dataset.theme = "light";
}

// Airflow shows this page in a sandbox that may not leave it: its own document has to follow the link.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[target=_top]");
  if (!framed || !link || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  const twin = framed.createElement("a");
  twin.href = link.href;
  framed.body.append(twin);
  twin.click();
  twin.remove();
});

function isInUse(main) {
  return document.hidden || !window.getSelection().isCollapsed || main.querySelector("details[open]") !== null;
}

let renewed = new Date();

// What stands there looks as good as before, and says nothing of what has happened since.
function complain(main) {
  if (main.querySelector("[data-stale]")) return;
  const sentence = document.createElement("p");
  sentence.className = "problem";
  sentence.dataset.stale = "1";
  sentence.setAttribute("role", "alert");
  const since = renewed.toISOString().slice(0, 19).replace("T", " ");
  sentence.textContent = `This page has not been renewed since ${since} UTC: Airflow's API server does not answer, or your login has ended. Reload it, or log in.`;
  main.prepend(sentence);
}

async function refresh() {
  const main = document.querySelector("main");
  if (!isInUse(main)) {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      const text = answer.ok && !answer.redirected ? await answer.text() : "";
      const next = new DOMParser().parseFromString(text, "text/html").querySelector("main");
      if (next) {
        const place = document.activeElement && document.activeElement.getAttribute("href");
        main.replaceWith(next);
        renewed = new Date();
        if (place) for (const link of next.querySelectorAll("a")) if (link.getAttribute("href") === place) { link.focus({ preventScroll: true }); break; }
      } else complain(main);
    } catch { complain(main); }
  }
  follow();
  setTimeout(refresh, document.querySelector("main").dataset.waits ? 1500 : 15000);
}

follow();
setTimeout(refresh, document.querySelector("main").dataset.waits ? 1500 : 15000);
