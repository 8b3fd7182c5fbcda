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

async function refresh() {
  const main = document.querySelector("main");
  try {
    if (!isInUse(main)) {
      const answer = await fetch(location.href, { cache: "no-store" });
      const next = answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main") : null;
      if (next) {
        const place = document.activeElement && document.activeElement.getAttribute("href");
        main.replaceWith(next);
        if (place) for (const link of next.querySelectorAll("a")) if (link.getAttribute("href") === place) { link.focus({ preventScroll: true }); break; }
      }
    }
  } catch { /* what stands there says how old it is */ }
  follow();
  setTimeout(refresh, document.querySelector("main").dataset.waits ? 1500 : 15000);
}

follow();
setTimeout(refresh, document.querySelector("main").dataset.waits ? 1500 : 15000);
