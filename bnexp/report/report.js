// Draws the charts and runs the controls of the report. Needs vegaEmbed, which the page has inlined before this script.
(function () {
  "use strict";
  const arms = JSON.parse(document.getElementById("arms").textContent);
  const hidden = new Set();
  const views = new Map(); // the place of a chart -> its view
  const levels = document.getElementById("level");

  // `ast` interprets Vega's expressions instead of compiling them, so that the page needs no permission to evaluate text.
  const options = { actions: false, renderer: "svg", ast: true, tooltip: { theme: "report" } };
  const waiting = new Set(document.querySelectorAll("[data-spec]"));

  // The specification of a chart with the arms and the level that are shown now.
  function specOf(place) {
    const spec = JSON.parse(document.getElementById(place.dataset.spec).textContent);
    const params = new Map((spec.params || []).map((param) => [param.name, param]));
    if (params.has("hidden_arms")) params.get("hidden_arms").value = [...hidden];
    if (params.has("level") && levels) {
      const axis = params.get("axes").value[levels.value];
      params.get("level").value = levels.value;
      if (axis) spec.title = { text: spec.title.text || spec.title, subtitle: axis.about };
    }
    const title = typeof spec.title === "string" ? { text: spec.title } : spec.title;
    spec.title = { ...title, text: lines(title.text, Math.max(place.clientWidth - 48, 160) / 7.5) };
    return spec;
  }

  // A title in lines of at most so many characters, between words, so that it fits a phone.
  function lines(text, most) {
    const found = [""];
    for (const word of text.split(" ")) {
      const last = found[found.length - 1];
      if (last && last.length + 1 + word.length > most) found.push(word);
      else found[found.length - 1] = last ? `${last} ${word}` : word;
    }
    return found;
  }

  async function draw(place) {
    waiting.delete(place);
    const label = place.getAttribute("aria-label");
    const told = place.dataset.told && levels && JSON.parse(place.dataset.told)[levels.value];
    views.get(place)?.finalize();
    place.replaceChildren();
    const { view } = await vegaEmbed(place, specOf(place), options);
    views.set(place, view);
    for (const [name, value] of [["role", "img"], ["aria-label", told || label]]) place.setAttribute(name, value);
    place.removeAttribute("aria-roledescription");
    place.querySelector("svg").setAttribute("aria-hidden", "true"); // the words of the whole say more than each mark's own
    place.dataset.drawn = "";
  }

  // A chart in a closed part is drawn when the part opens, so that a long page opens quickly.
  for (const place of waiting) {
    const closed = place.closest("details:not([open])");
    if (closed) closed.addEventListener("toggle", () => waiting.has(place) && draw(place));
    else draw(place);
    place.before(menu(place));
  }

  // The menu of a figure, which saves it as it is shown now, with its legend, on white.
  function menu(place) {
    const box = document.createElement("details");
    box.className = "menu";
    const opener = document.createElement("summary");
    opener.textContent = "Save";
    opener.setAttribute("aria-label", `Save figure: ${place.dataset.title}`);
    box.append(opener);
    for (const kind of ["PNG", "SVG"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = kind;
      button.addEventListener("click", () => save(place, kind.toLowerCase()).finally(() => (box.open = false)));
      box.append(button);
    }
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      box.open = false;
      opener.focus();
    });
    return box;
  }

  async function save(place, kind) {
    const spec = { ...specOf(place), background: "white", width: Math.max(place.clientWidth, 480) };
    delete spec.config.legend.disable;
    const { view } = await vegaEmbed(document.createElement("div"), spec, options);
    const link = document.createElement("a");
    link.download = `${place.dataset.file}.${kind}`;
    link.href = kind === "svg" ? `data:image/svg+xml,${encodeURIComponent(await view.toSVG())}` : await view.toImageURL("png", 2);
    view.finalize();
    document.body.append(link);
    link.click();
    link.remove();
  }

  document.addEventListener("click", (event) => {
    for (const box of document.querySelectorAll(".menu[open]")) if (!box.contains(event.target)) box.open = false;
  });

  function signal(name, value) {
    for (const view of views.values()) {
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

  levels?.addEventListener("change", () => {
    for (const place of views.keys()) if (specOf(place).params?.some((param) => param.name === "level")) draw(place);
  });

  addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not(.menu)").forEach((part) => (part.open = true));
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
