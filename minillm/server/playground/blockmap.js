// The map of the KV blocks: a cell for each, in the order of their numbers. A pool may have a hundred thousand of them,
// so only the rows that are in sight are drawn: the canvas stays where it is while a tall, empty element scrolls.

import { count, drawName, drawOther, fillLegend, font, listed, prepare, theme } from "./canvas.js";

const GUTTER = 44; // for the number of each row's first block
const CELL = 19;
const LEAST_ROWS = 6;
const EXAMPLE = [
  { letter: "A", color: "#0072B2", ink: "#FFFFFF" },
  { letter: "B", color: "#E69F00", ink: "#000000" },
];

export class BlockMap {
  #looks = []; // what each cell was drawn as: only those that change are drawn again
  #layout = "";
  #current = null; // the block that is told about
  #highlight = null; // the request whose blocks stand out

  constructor(engine) {
    this.engine = engine;
    this.canvas = document.getElementById("map");
    this.space = document.getElementById("map-space");
    this.scroller = document.getElementById("map-scroller");
    this.detail = document.getElementById("map-detail");
    this.count = document.getElementById("map-count");
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.scroller.addEventListener("scroll", () => this.draw());
    for (const type of ["focus", "blur"]) this.canvas.addEventListener(type, () => this.draw());
    document.addEventListener("theme", () => this.redraw());
    this.#legend();
  }

  /** Lets one request's blocks stand out; null for none. */
  highlight(request) {
    this.#highlight = request;
    this.draw();
  }

  redraw() {
    this.#layout = "";
    this.#legend();
    this.draw();
  }

  draw() {
    const { pool, highest } = this.engine;
    if (!pool.total) return;
    this.#arrange(pool.total + 1, highest);
    const first = Math.floor(this.top / this.cell) * this.columns;
    const end = Math.ceil((this.top + this.scroller.clientHeight) / this.cell) * this.columns;
    for (let number = first; number < Math.min(end, this.shown); number++) this.#drawCell(number);
    const unseen = pool.total + 1 - this.shown;
    const rest = unseen > 0 ? `; the ${unseen.toLocaleString("en")} that aren’t shown were never used` : "";
    const text = `${pool.total.toLocaleString("en")}, each for ${pool.block_size} tokens${rest}`;
    if (this.count.textContent !== text) this.count.textContent = text;
    if (this.#current !== null) this.#tell();
  }

  /** As many columns as fit, a multiple of eight or four; rows down to the highest block that was ever used, and one more. */
  #arrange(total, highest) {
    const width = this.scroller.clientWidth;
    const fit = Math.floor((width - GUTTER) / CELL);
    const multiple = fit < 16 ? 4 : 8;
    this.columns = Math.max(4, fit - (fit % multiple));
    this.cell = Math.min(24, Math.floor((width - GUTTER) / this.columns));
    const rows = Math.max(LEAST_ROWS, Math.floor(highest / this.columns) + 2);
    this.shown = Math.min(total, rows * this.columns);
    this.space.style.height = `${Math.ceil(this.shown / this.columns) * this.cell}px`;
    this.top = this.scroller.scrollTop;
    const layout = [this.columns, this.cell, this.shown, this.top, this.scroller.clientHeight, window.devicePixelRatio].join();
    if (layout === this.#layout) return;
    this.#layout = layout;
    this.#looks = [];
    this.colors = theme();
    this.context = prepare(this.canvas, GUTTER + this.columns * this.cell, this.scroller.clientHeight);
    this.#drawNumbers();
  }

  /** The number of each row's first block. */
  #drawNumbers() {
    this.context.fillStyle = this.colors.muted;
    this.context.font = font(11, 400);
    this.context.textAlign = "right";
    for (let row = Math.floor(this.top / this.cell); row * this.columns < this.shown; row++) {
      const y = (row + 0.5) * this.cell - this.top;
      if (y > this.scroller.clientHeight + this.cell) break;
      this.context.fillText(row * this.columns, GUTTER - 8, y);
    }
    this.context.textAlign = "center";
  }

  #drawCell(number) {
    const block = number === 0 ? { kind: "reserved", owners: [] } : this.engine.block(number);
    const isFaint = this.#highlight !== null && !block.owners.some((request) => request.id === this.#highlight);
    const isCurrent = number === this.#current && document.activeElement === this.canvas;
    const look = [block.kind, isFaint, isCurrent, ...block.owners.map((request) => request.id)].join();
    if (look === this.#looks[number]) return;
    this.#looks[number] = look;
    const [x, y, cell] = [GUTTER + (number % this.columns) * this.cell, Math.floor(number / this.columns) * this.cell - this.top, this.cell];
    this.context.clearRect(x, y, cell, cell);
    this.context.globalAlpha = isFaint ? 0.25 : 1;
    drawBlock(this.context, this.colors, block.kind, block.owners.map((request) => request.name), x + 1, y + 1, cell - 2);
    this.context.globalAlpha = 1;
    if (isCurrent) {
      this.context.strokeStyle = this.colors.ink;
      this.context.lineWidth = 2;
      this.context.strokeRect(x + 1, y + 1, cell - 2, cell - 2);
    }
  }

  #legend() {
    const draw = (kind, names = []) => (context, colors) => drawBlock(context, colors, kind, names, 0, 0, 16);
    fillLegend(document.getElementById("map-legend"), [
      ["used by request A", draw("used", EXAMPLE.slice(0, 1))],
      ["shared by two", draw("shared", EXAMPLE)],
      ["cached, reusable", draw("cached")],
      ["free", draw("free")],
      ["another tenant’s", draw("other")],
    ]);
  }

  // -- one block --------------------------------------------------------------------------------------------------

  #point(event) {
    const column = Math.floor((event.offsetX - GUTTER) / this.cell);
    const number = Math.floor((event.offsetY + this.top) / this.cell) * this.columns + column;
    if (column >= 0 && column < this.columns && number >= 0 && number < this.shown) this.#goTo(number);
  }

  #key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns };
    const ends = { Home: 0, End: this.shown - 1 };
    const current = this.#current ?? 0;
    const number = ends[event.key] ?? (event.key in moves ? current + moves[event.key] : NaN);
    if (Number.isNaN(number)) return;
    event.preventDefault();
    if (number < 0 || number >= this.shown) return;
    const top = Math.floor(number / this.columns) * this.cell;
    const lowest = top + this.cell - this.scroller.clientHeight;
    this.scroller.scrollTop = Math.max(lowest, Math.min(top, this.scroller.scrollTop));
    this.#goTo(number);
  }

  #goTo(number) {
    this.#current = number;
    this.draw();
  }

  #tell() {
    const text = this.#words(this.#current);
    if (this.detail.textContent !== text) this.detail.textContent = text;
  }

  #words(number) {
    if (number === 0) return "Block 0: never used; block tables are padded with it.";
    const block = this.engine.block(number);
    const hash = block.hash ? ` Hash ${block.hash}…` : "";
    const names = listed(block.owners.map((request) => request.name.letter));
    switch (block.kind) {
      case "used": return `Block ${number}: used by request ${names}, ${this.#contents(block)}.${hash}`;
      case "shared": return `Block ${number}: shared by requests ${names}, ${this.#contents(block)}.${hash}`;
      case "cached": return `Block ${number}: cached. Nobody uses it; a prompt that begins alike can.${hash}`;
      case "other": return `Block ${number}: used by another tenant.`;
      case "cached-other": return `Block ${number}: cached for another tenant.`;
      default: return `Block ${number}: free.`;
    }
  }

  #contents({ number, owners }) {
    const [first, computed] = this.engine.tokensIn(owners[0], number);
    const size = this.engine.pool.block_size;
    if (computed === size) return `tokens ${first} to ${first + size - 1}`;
    return `tokens from ${first} on, ${count(computed, "token")} of ${size} computed`;
  }
}

/** One block. What it is shows in its form as well as in its color. */
function drawBlock(context, colors, kind, names, x, y, size) {
  context.lineWidth = 1;
  context.strokeStyle = colors.line;
  switch (kind) {
    case "used":
      return drawName(context, names[0], x, y, size, size);
    case "shared":
      return drawShared(context, colors, names, x, y, size);
    case "other":
      return drawOther(context, colors, x, y, size, size);
    case "reserved":
      context.fillStyle = colors.line;
      context.fillRect(x, y, size, size);
      context.fillStyle = colors.ink;
      context.font = font(11, 400);
      return context.fillText("×", x + size / 2, y + size / 2 + 0.5);
    case "cached":
    case "cached-other":
      context.fillStyle = context.strokeStyle = colors.muted;
      for (const dx of [0.25, 0.5, 0.75]) for (const dy of [0.25, 0.5, 0.75]) context.fillRect(x + dx * size - 1, y + dy * size - 1, 2, 2);
      if (kind === "cached-other") context.setLineDash([2, 2]);
      context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
      return context.setLineDash([]);
    default:
      return context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
  }
}

/** The colors of the first two owners, and how many there are on a disc. */
function drawShared(context, colors, names, x, y, size) {
  context.fillStyle = names[0].color;
  context.fillRect(x, y, size, size);
  context.fillStyle = names[1].color;
  context.beginPath();
  context.moveTo(x + size, y);
  context.lineTo(x + size, y + size);
  context.lineTo(x, y + size);
  context.fill();
  context.fillStyle = colors.panel;
  context.beginPath();
  context.arc(x + size / 2, y + size / 2, 0.37 * size, 0, 7);
  context.fill();
  context.fillStyle = colors.ink;
  context.font = font(Math.floor(0.6 * size) - (names.length > 9 ? 2 : 0), 700);
  context.fillText(names.length, x + size / 2, y + size / 2 + 0.5);
}
