// Filters the claims of the book, and opens the one that a link leads to.
(function () {
  "use strict";
  const form = document.getElementById("claim-filter");
  const rows = [...document.querySelectorAll("tr[data-claim]")];
  const parts = new Map([...document.querySelectorAll("details[data-claim]")].map((part) => [part.dataset.claim, part]));
  const themes = document.querySelectorAll("[data-theme]");
  const status = document.getElementById("claims-shown");

  function filter() {
    const { text, verdict, theme } = Object.fromEntries(new FormData(form));
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const show =
        (!verdict || row.dataset.verdict === verdict) &&
        (!theme || row.closest("[data-theme]").dataset.theme === theme) &&
        words.every((word) => row.dataset.find.includes(word));
      row.hidden = parts.get(row.dataset.claim).hidden = !show;
      count += show;
    }
    for (const group of themes) group.hidden = !group.querySelector("[data-claim]:not([hidden])");
    status.textContent = `${count} of ${rows.length} claims`;
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  form.hidden = rows.length < 2;
  filter(); // a browser may have kept what was typed before the page was loaded again

  const all = document.getElementById("open-all");
  if (all) {
    all.hidden = false;
    all.addEventListener("click", () => {
      const open = [...parts.values()].some((part) => !part.open);
      for (const part of parts.values()) part.open = open;
      all.textContent = open ? "Close all" : "Open all";
    });
  }

  function follow() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    const part = target && target.closest("details[data-claim]");
    if (!part) return;
    if (part.hidden) {
      form.reset();
      filter();
    }
    part.open = true;
    part.scrollIntoView();
  }

  addEventListener("hashchange", follow);
  document.querySelector("table.claims").addEventListener("click", (event) => {
    if (event.target.closest("a[href^='#']")) setTimeout(follow); // also if the link leads where the page already is
  });
  follow();
})();
