// Lays the anomaly maps over rendered and depth images in the browser: opacity, blinking and outline need no server.
const KEPT = "gsclip.views";
const FIRST = { layer: "both", opacity: 60, blink: false, outline: true };

function kept() {
  try { return { ...FIRST, ...JSON.parse(sessionStorage.getItem(KEPT) ?? "{}") }; } catch { return { ...FIRST }; }
}

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function stack(view, layer, text) {
  const images = [[layer, ""], ["map", "map"], ["truth", "truth"]].filter(([name]) => view.layers[name]).map(
    ([name, className], place) =>
      element("img", { src: view.layers[name], className, alt: place ? "" : `${text[layer]}, ${view.name}` })
  );
  return element("div", { className: `stack ${layer}` }, images);
}

export default function ({ data, parentElement }) {
  const settings = kept();
  const { text } = data;
  const root = element("div", { className: "views" });
  const grid = element("div", { className: "grid" });
  root.style.setProperty("--backdrop", data.background);

  function show() {
    sessionStorage.setItem(KEPT, JSON.stringify(settings));
    root.style.setProperty("--opacity", settings.opacity / 100);
    root.style.setProperty("--least", settings.layer === "both" ? "320px" : "200px");
    root.classList.toggle("blinking", settings.blink);
    root.classList.toggle("plain", !settings.outline);
    const layers = settings.layer === "both" ? ["rendered", "depth"] : [settings.layer];
    grid.replaceChildren(...data.views.map((view) => {
      const bar = element("span", { className: "share" }, [element("b")]);
      bar.firstChild.style.width = `${100 * view.probability}%`;
      const caption = element("figcaption", {}, [
        element("span", { className: "name", textContent: view.name, title: view.name }),
        bar,
        element("span", { className: "value", textContent: view.probability.toFixed(2), title: text.probability }),
      ]);
      const images = element("div", { className: "images" }, layers.map((layer) => stack(view, layer, text)));
      const figure = element("figure", { className: "view", tabIndex: 0, title: text.enlarge }, [images, caption]);
      const enlarge = () => figure.classList.toggle("large");
      figure.addEventListener("click", enlarge);
      figure.addEventListener("keydown", (event) => {
        if (event.key === "Enter") enlarge();
        if (event.key === "Escape") figure.classList.remove("large");
      });
      return figure;
    }));
  }

  const group = element("div", { className: "group", role: "group", ariaLabel: text.layers });
  for (const layer of ["both", "rendered", "depth"]) {
    const button = element("button", { type: "button", textContent: text[layer], ariaPressed: settings.layer === layer });
    button.addEventListener("click", () => {
      settings.layer = layer;
      for (const other of group.children) other.ariaPressed = other === button;
      show();
    });
    group.append(button);
  }
  const value = element("output", { textContent: `${settings.opacity} %` });
  const opacity = element("input", { type: "range", min: 0, max: 100, step: 5, value: settings.opacity });
  opacity.addEventListener("input", () => {
    settings.opacity = Number(opacity.value);
    value.textContent = `${settings.opacity} %`;
    root.style.setProperty("--opacity", settings.opacity / 100);
    sessionStorage.setItem(KEPT, JSON.stringify(settings));
  });
  function box(name) {
    const input = element("input", { type: "checkbox", checked: settings[name] });
    input.addEventListener("change", () => {
      settings[name] = input.checked;
      root.classList.toggle("blinking", settings.blink);
      root.classList.toggle("plain", !settings.outline);
      sessionStorage.setItem(KEPT, JSON.stringify(settings));
    });
    return input;
  }
  const blink = box("blink");
  const scale = element("span", { className: "scale", title: text.scale }, [
    element("span", { textContent: data.limits[0].toFixed(3) }),
    element("i"),
    element("span", { textContent: data.limits[1].toFixed(3) }),
  ]);
  const controls = [
    group,
    element("label", {}, [text.opacity, opacity, value]),
    element("label", {}, [blink, text.blink]),
    ...(data.views.some((view) => view.layers.truth) ? [element("label", {}, [box("outline"), text.outline])] : []),
    scale,
  ];
  root.append(element("div", { className: "bar" }, controls), grid);
  for (const old of parentElement.querySelectorAll(".views")) old.remove();
  parentElement.append(root);
  show();

  function pressed(event) {
    const target = event.composedPath()[0];
    if (event.key !== "b" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName)) return;
    blink.click();
  }
  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}
