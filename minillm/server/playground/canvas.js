// What both pictures have in common: a sharp canvas, the theme's colors, and the marks.

/** Sizes a canvas in CSS pixels, and returns a context that draws in them. Empties it. */
export function prepare(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.textAlign = "center";
  context.textBaseline = "middle";
  return context;
}

/** The theme's colors, from the style sheet. */
export function theme() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return { panel: color("panel"), ink: color("ink"), muted: color("muted"), line: color("line"), accent: color("accent") };
}

export function font(size, weight = 600) {
  return `${weight} ${size}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace`;
}

/** A request's letter on its color. */
export function drawName(context, name, x, y, width, height) {
  context.fillStyle = name.color;
  context.fillRect(x, y, width, height);
  context.fillStyle = name.ink;
  context.font = font(Math.min(12, Math.floor((width - 2) / (0.62 * name.letter.length))));
  context.fillText(name.letter, x + width / 2, y + height / 2 + 0.5);
}

/** Another tenant's: gray, and crossed, so that it can't be taken for a request's color. */
export function drawOther(context, colors, x, y, width, height) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = colors.muted;
  context.lineWidth = 1;
  context.beginPath();
  for (let offset = -height; offset < width; offset += 4) {
    context.moveTo(x + offset, y);
    context.lineTo(x + offset + height, y + height);
    context.moveTo(x + offset + height, y);
    context.lineTo(x + offset, y + height);
  }
  context.stroke();
  context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  context.restore();
}

/** Fills a legend: a list of small pictures with their words. */
export function fillLegend(list, entries) {
  list.replaceChildren(
    ...entries.map(([words, draw]) => {
      const item = document.createElement("li");
      const canvas = document.createElement("canvas");
      canvas.setAttribute("aria-hidden", "true");
      draw(prepare(canvas, 16, 16), theme());
      item.append(canvas, words);
      return item;
    }),
  );
}

/** "A", "A and B", "A, B and C". */
export function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

export function count(number, word) {
  return `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
}
