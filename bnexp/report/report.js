// Draws the charts and runs the controls of the report. Needs vegaEmbed, which the page has inlined before this script.
(function () {
  "use strict";
  const arms = JSON.parse(document.getElementById("arms").textContent);
  const hidden = new Set();
  const views = [];

  // `ast` interprets Vega's expressions instead of compiling them, so that the page needs no permission to evaluate text.
  const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: "report" } };
  const waiting = new Set(document.querySelectorAll("[data-spec]"));

  async function draw(place) {
    if (!waiting.delete(place)) return;
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    place.replaceChildren();
    const { view } = await vegaEmbed(place, spec, options);
    views.push(view);
    place.dataset.drawn = "";
  }

  // A chart in a closed part is drawn when the part opens, so that a long page opens quickly.
  for (const place of waiting) {
    const closed = place.closest("details:not([open])");
    if (closed) closed.addEventListener("toggle", () => draw(place));
    else draw(place);
  }

  function signal(name, value) {
    for (const view of views) {
      if (name in view.getState({ signals: (key) => key === name }).signals) view.signal(name, value).runAsync();
    }
  }

  for (const button of document.querySelectorAll("[data-arm][aria-pressed]")) {
    button.addEventListener("click", () => {
      const arm = arms[button.dataset.arm];
      const hide = !hidden.delete(arm);
      if (hide) hidden.add(arm);
      for (const twin of document.querySelectorAll(`[data-arm="${button.dataset.arm}"][aria-pressed]`)) {
        twin.setAttribute("aria-pressed", String(!hide));
      }
      signal("hidden_arms", [...hidden]);
    });
  }

  document.getElementById("level")?.addEventListener("change", (event) => signal("level", event.target.value));

  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((part) => (part.open = true));
    waiting.forEach(draw);
  });

  const form = document.getElementById("filters");
  if (!form) return;
  const cards = [...document.querySelectorAll(".gallery > li")];
  const status = document.getElementById("shown");

  function filter() {
    const { arm, truth, prediction, outcome } = Object.fromEntries(new FormData(form));
    let count = 0;
    for (const card of cards) {
      let rows = 0;
      for (const row of card.querySelectorAll("[data-arm]")) {
        const match =
          (!arm || row.dataset.arm === arm) &&
          (!prediction || row.dataset.prediction === prediction) &&
          (outcome !== "right" && outcome !== "wrong" || row.classList.contains(outcome));
        row.hidden = !match;
        rows += match;
      }
      const show = rows > 0 && (!truth || card.dataset.truth === truth) && (outcome !== "disagree" || "disagree" in card.dataset);
      card.hidden = !show;
      count += show;
    }
    status.textContent = `${count} of ${cards.length} images`;
  }

  form.addEventListener("change", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  document.getElementById("show-disagreements")?.addEventListener("click", () => {
    form.reset();
    form.elements.outcome.value = "disagree";
    setTimeout(filter);
    form.scrollIntoView();
    form.elements.outcome.focus({ preventScroll: true });
  });
})();
