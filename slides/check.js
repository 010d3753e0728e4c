// Runs in the page of a built deck and returns, for each slide, what check.py judges. Lengths are in slide pixels.
() => {
  const TOLERANCE = 1;
  const snippet = (element) => (element.innerText ?? element.textContent ?? "").trim().replace(/\s+/g, " ").slice(0, 60);
  const label = (element) => {
    const tag = element.tagName.toLowerCase();
    const words = element.getAttribute("alt") || snippet(element);
    return words ? `${tag} "${words}"` : tag;
  };

  /** The elements whose place matters: not what is inside a drawing, not what only screen readers meet. */
  const laidOut = (section) =>
    [...section.querySelectorAll("*")].filter(
      (element) =>
        !element.closest("footer, header, mjx-assistive-mml, style, script") &&
        !element.parentElement.closest("svg[data-mml-node], mjx-container svg") &&
        element.getClientRects().length > 0,
    );

  const ownText = (element) => [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());

  /** The box of an element together with the text directly in it, which may stick out. */
  const box = (element) => {
    const rects = [element.getBoundingClientRect()];
    for (const node of ownText(element)) {
      const range = document.createRange();
      range.selectNodeContents(node);
      rects.push(...range.getClientRects());
    }
    return {
      left: Math.min(...rects.map((r) => r.left)),
      top: Math.min(...rects.map((r) => r.top)),
      right: Math.max(...rects.map((r) => r.right)),
      bottom: Math.max(...rects.map((r) => r.bottom)),
    };
  };

  const outside = (section, elements, scale) => {
    const limit = section.getBoundingClientRect();
    const found = new Map();
    for (const element of elements) {
      const b = box(element);
      const sides = { left: limit.left - b.left, top: limit.top - b.top, right: b.right - limit.right, bottom: b.bottom - limit.bottom };
      let [side, by] = Object.entries(sides).reduce((a, c) => (c[1] > a[1] ? c : a));
      by /= scale;
      if (by <= TOLERANCE) continue;
      const outer = [...found.keys()].find((other) => other.contains(element));
      if (!outer) found.set(element, { side, by });
      else if (by > found.get(outer).by) found.set(outer, { side, by });
    }
    return [...found].map(([element, { side, by }]) => ({
      what: label(element),
      problem: `goes beyond the ${side} edge of the slide by ${Math.ceil(by)} px`,
    }));
  };

  const wide = (elements) => {
    const found = [];
    for (const element of elements) {
      if (getComputedStyle(element).display.startsWith("inline") || element instanceof SVGElement) continue;
      const by = element.scrollWidth - element.clientWidth;
      if (by <= TOLERANCE || found.some(({ element: other }) => other.contains(element))) continue;
      found.push({ element, what: label(element), problem: `is ${by} px wider than the room it has` });
    }
    return found.map(({ element, ...finding }) => finding);
  };

  const clipped = (elements) =>
    elements
      .filter((element) => !(element instanceof SVGElement) && getComputedStyle(element).overflowY !== "visible")
      .map((element) => ({ what: label(element), by: element.scrollHeight - element.clientHeight }))
      .filter(({ by }) => by > TOLERANCE)
      .map((finding) => ({ ...finding, problem: `hides ${finding.by} px of its content` }));

  /** The one that reaches furthest into the footer's line. */
  const onFooter = (section, elements, scale) => {
    const footer = section.querySelector("footer");
    if (!footer) return [];
    const strip = footer.getBoundingClientRect();
    return elements
      .filter((element) => ownText(element).length > 0 || ["IMG", "PRE", "svg"].includes(element.tagName))
      .map((element) => ({ what: label(element), by: (box(element).bottom - strip.top) / scale }))
      .filter(({ by }) => by > TOLERANCE)
      .sort((a, b) => b.by - a.by)
      .slice(0, 1)
      .map((finding) => ({ ...finding, problem: `reaches ${Math.ceil(finding.by)} px into the footer` }));
  };

  /** Marp shrinks a displayed formula until it fits, down to nothing; its height in `ex` says how big it should be. */
  const shrunk = (section) =>
    [...section.querySelectorAll("mjx-container[display='true'] > svg")]
      .map((svg) => {
        const whole = (svg.viewBox.baseVal.width / svg.viewBox.baseVal.height) * parseFloat(getComputedStyle(svg).maxHeight);
        return Math.round((100 * svg.clientWidth) / whole);
      })
      .filter((percent) => percent < 90)
      .map((percent) => ({ what: "a formula", problem: `is too broad and was shrunk to ${percent} % of its size` }));

  const tooSmall = (elements) =>
    elements
      .filter((element) => ownText(element).length > 0 && !(element instanceof SVGElement))
      .map((element) => ({ what: label(element), size: parseFloat(getComputedStyle(element).fontSize) }))
      .filter(({ size }) => size < 16)
      .map(({ what, size }) => ({ what, problem: `is set in ${size} px, too small to read (at least 16)` }));

  /** Width and height are those of what is drawn, which keeps the picture's proportions inside its box. */
  const picture = (img, scale) => {
    const { width, height } = img.getBoundingClientRect();
    const drawn = Math.min(width / img.naturalWidth, height / img.naturalHeight) / scale;
    return {
      alt: img.alt.trim(),
      loaded: img.complete && img.naturalWidth > 0,
      width: Math.round(drawn * img.naturalWidth) || 0,
      height: Math.round(drawn * img.naturalHeight) || 0,
    };
  };

  return [...document.querySelectorAll("svg.bespoke-marp-slide")].map((svg, index) => {
    const section = svg.querySelector('section:not([data-marpit-advanced-background]), section[data-marpit-advanced-background="content"]');
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const elements = laidOut(section);
    const note = document.querySelector(`.bespoke-marp-note[data-index="${index}"]`);
    const layout = [
      ...outside(section, elements, scale),
      ...wide(elements),
      ...clipped(elements),
      ...onFooter(section, elements, scale),
      ...shrunk(section),
      ...tooSmall(elements),
    ];
    return {
      classes: [...section.classList],
      title: snippet(section.querySelector("h1, h2") ?? document.createElement("i")),
      notes: note?.textContent.trim() ?? "",
      layout,
      pictures: [...section.querySelectorAll("img")].map((img) => picture(img, scale)),
      backgrounds: svg.querySelectorAll("figure").length,
      codeLines: [...section.querySelectorAll("pre")].flatMap((pre) => pre.textContent.split("\n")),
    };
  });
}
