// The batch's timeline: a column for each step, a row for each request; below, the tokens and the time of each step.

import { count, drawName, drawOther, fillLegend, font, listed, prepare, theme } from "./canvas.js";

const GUTTER = 44;
const COLUMN = 12;
const ROW = 17;
const LEAST_ROWS = 3;
const MOST_ROWS = 17;
const BAND = 34; // of the bars for tokens and for time

export class Timeline {
  #current = null; // the step that is told about

  constructor(engine) {
    this.engine = engine;
    this.canvas = document.getElementById("timeline");
    this.detail = document.getElementById("timeline-detail");
    this.count = document.getElementById("timeline-count");
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const type of ["focus", "blur"]) this.canvas.addEventListener(type, () => this.draw());
    document.addEventListener("theme", () => this.redraw());
    this.#legend();
  }

  redraw() {
    this.#legend();
    this.draw();
  }

  draw() {
    const width = this.canvas.parentElement.clientWidth;
    this.steps = this.engine.steps.slice(-Math.floor((width - GUTTER) / COLUMN));
    const rows = this.#rows();
    const shownRows = Math.max(LEAST_ROWS, rows.length);
    const colors = theme();
    const context = prepare(this.canvas, width, shownRows * ROW + 2 * BAND + 8);
    this.#drawLines(context, colors, width, shownRows);
    rows.forEach((row, index) => this.#drawRow(context, colors, row, index * ROW));
    this.#drawBars(context, colors, shownRows * ROW + BAND, "tok", (step) => tokensOf(step));
    this.#drawBars(context, colors, shownRows * ROW + 2 * BAND + 6, "ms", (step) => step.ms);
    this.#drawCurrent(context, colors, shownRows);
    this.#tell();
  }

  /** Who appears in the steps that are shown: names, and null for the other tenants. */
  #rows() {
    const names = new Set();
    for (const step of this.steps) {
      for (const { name } of step.who) names.add(name);
      for (const name of step.preempted) names.add(name);
    }
    const rows = [...names];
    const more = rows.length - MOST_ROWS;
    const hasOthers = this.steps.some((step) => step.others[0]);
    this.count.textContent = more > 0 ? `the newest ${MOST_ROWS} of ${rows.length} requests` : "";
    return [...rows.slice(-MOST_ROWS), ...(hasOthers ? [null] : [])];
  }

  #drawLines(context, colors, width, rows) {
    context.fillStyle = colors.line;
    for (let row = 0; row <= rows; row++) context.fillRect(GUTTER, row * ROW, width - GUTTER, 0.5);
  }

  #drawRow(context, colors, row, y) {
    if (row) drawName(context, row, GUTTER - 26, y + 2, 18, ROW - 4);
    else drawOther(context, colors, GUTTER - 26, y + 2, 18, ROW - 4);
    this.steps.forEach((step, index) => {
      const x = GUTTER + index * COLUMN;
      if (row === null) {
        if (step.others[0]) drawOther(context, colors, x + 1, y + 2, COLUMN - 2, ROW - 4);
        return;
      }
      const part = step.who.find(({ name }) => name === row);
      if (part) drawPart(context, colors, row.color, part.isDecode, x + 1, y + 2, COLUMN - 2, ROW - 4);
      if (step.preempted.includes(row)) drawPreempted(context, colors, x, y, COLUMN, ROW);
    });
  }

  /** Bars that stand on `bottom`, with the largest value beside them. */
  #drawBars(context, colors, bottom, unit, value) {
    const most = Math.max(0, ...this.steps.map(value));
    context.fillStyle = colors.muted;
    context.textAlign = "right";
    context.font = font(10, 400);
    context.fillText(unit, GUTTER - 6, bottom - 6);
    if (most) context.fillText(most < 10 ? most.toFixed(1).replace(".0", "") : Math.round(most), GUTTER - 6, bottom - BAND + 14);
    context.textAlign = "center";
    context.fillRect(GUTTER, bottom, this.steps.length * COLUMN, 0.5);
    context.fillStyle = colors.accent;
    this.steps.forEach((step, index) => {
      const height = most ? Math.max(1, ((BAND - 8) * value(step)) / most) : 0;
      context.fillRect(GUTTER + index * COLUMN + 2, bottom - height, COLUMN - 4, height);
    });
  }

  #drawCurrent(context, colors, rows) {
    const index = this.steps.findIndex((step) => step.n === this.#current);
    if (index < 0) return;
    context.strokeStyle = colors.ink;
    context.lineWidth = document.activeElement === this.canvas ? 2 : 1;
    context.strokeRect(GUTTER + index * COLUMN, 1, COLUMN, rows * ROW + 2 * BAND + 6);
  }

  #legend() {
    fillLegend(document.getElementById("timeline-legend"), [
      ["prefill, a chunk of the prompt", (context, colors) => drawPart(context, colors, "#0072B2", false, 2, 1, 12, 14)],
      ["decode, one token", (context, colors) => drawPart(context, colors, "#0072B2", true, 2, 1, 12, 14)],
      ["preempted", (context, colors) => drawPreempted(context, colors, 0, 0, 16, 16)],
    ]);
  }

  // -- one step ---------------------------------------------------------------------------------------------------

  #point(event) {
    const step = this.steps?.[Math.floor((event.offsetX - GUTTER) / COLUMN)];
    if (step) this.#goTo(step.n);
  }

  #key(event) {
    const last = this.steps.length - 1;
    const index = this.steps.findIndex((step) => step.n === this.#current);
    const at = { ArrowLeft: index < 0 ? last : index - 1, ArrowRight: index < 0 ? last : index + 1, Home: 0, End: last }[event.key];
    if (at === undefined) return;
    event.preventDefault();
    if (this.steps[at]) this.#goTo(this.steps[at].n);
  }

  #goTo(number) {
    this.#current = number;
    this.draw();
  }

  #tell() {
    const step = this.steps.find((each) => each.n === this.#current);
    if (!step) return; // it has left the picture; what was said of it stays
    const text = words(step);
    if (this.detail.textContent !== text) this.detail.textContent = text;
  }
}

function tokensOf(step) {
  return step.others[1] + step.who.reduce((sum, part) => sum + part.tokens, 0);
}

/** "Step 12: 41 ms, 38 ms of it in the model; 130 tokens. A decodes; B reads tokens 0 to 127." */
function words(step) {
  const decoding = step.who.filter((part) => part.isDecode).map((part) => part.name.letter);
  const parts = decoding.length ? [`${listed(decoding)} ${decoding.length > 1 ? "decode" : "decodes"}`] : [];
  for (const { name, tokens, isDecode, before } of step.who) {
    if (!isDecode) parts.push(`${name.letter} reads ${count(tokens, "token")}, from ${before} on`);
  }
  if (step.others[0]) parts.push(`${count(step.others[0], "request")} of other tenants`);
  for (const name of step.preempted) parts.push(`${name.letter} gave its blocks up`);
  if (step.othersPreempted) parts.push("another tenant’s request gave its blocks up");
  const skipped = step.skippedAfter ? ` ${count(step.skippedAfter, "step")} after it aren’t shown.` : "";
  return `Step ${step.n}: ${duration(step.ms)}, ${duration(step.forward)} of it in the model; ${count(tokensOf(step), "token")}. ${parts.join("; ")}.${skipped}`;
}

function duration(milliseconds) {
  return `${milliseconds < 100 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
}

/** Prefill fills its cell; decode is a bar in the middle of it. */
function drawPart(context, colors, color, isDecode, x, y, width, height) {
  const [top, tall] = isDecode ? [y + Math.round(0.3 * height), Math.round(0.4 * height)] : [y, height];
  context.fillStyle = color;
  context.fillRect(x, top, width, tall);
  context.strokeStyle = colors.muted; // not every color stands out from every background
  context.lineWidth = 1;
  context.strokeRect(x + 0.5, top + 0.5, width - 1, tall - 1);
}

function drawPreempted(context, colors, x, y, width, height) {
  context.fillStyle = colors.ink;
  context.font = font(14, 700);
  context.fillText("×", x + width / 2, y + height / 2 + 0.5);
}
