// The engine as the page knows it: put together from the events of GET v1/engine/steps, each of which tells what has
// changed since the one before. Nothing here draws.

/** Okabe and Ito's colors; yellow is left out because it doesn't show on white. */
const COLORS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"];
const KEPT_STEPS = 400;
const KEPT_NAMES = 8; // of requests that are over, so that their letters don't come back at once
const RATE_SECONDS = 3;

export class Engine {
  constructor() {
    this.names = new Names();
    this.forget();
  }

  /** Back to knowing nothing, but for the names that requests have got. */
  forget() {
    this.known = false;
    this.pool = { total: 0, block_size: 0 };
    this.metrics = {};
    this.draining = false;
    this.requests = new Map(); // id: the request, with the table of its blocks
    this.others = { running: 0, waiting: 0, used: new Set(), cached: new Set() };
    this.cached = new Map(); // block: the beginning of its hash
    this.owners = new Map(); // block: requests that hold it
    this.steps = [];
    this.samples = []; // of the counters, for rates
    this.highest = 0; // the highest block that was ever in use
  }

  /** Takes an event in. */
  apply(event) {
    if (event.full) this.forget();
    this.known = true;
    this.pool = event.pool;
    this.metrics = event.metrics;
    this.draining = event.draining;
    this.#applyRequests(event.requests);
    this.#applyOthers(event.others);
    this.#applyCached(event.cached);
    this.#applySteps(event);
    this.#sample(event.time);
  }

  #applyRequests(told) {
    const before = this.requests;
    this.requests = new Map();
    this.owners = new Map();
    for (const { blocks, ...fields } of told) {
      let table = before.get(fields.id)?.table ?? [];
      if (blocks) table = [...table.slice(0, blocks[0]), ...blocks[1]];
      const request = { ...fields, table, name: this.names.of(fields.id) };
      this.requests.set(request.id, request);
      for (const block of table) {
        if (!this.owners.has(block)) this.owners.set(block, []);
        this.owners.get(block).push(request);
        this.highest = Math.max(this.highest, block);
      }
    }
    this.names.keep(this.requests);
  }

  #applyOthers({ running, waiting, used, cached }) {
    Object.assign(this.others, { running, waiting });
    for (const [blocks, change] of [[this.others.used, used], [this.others.cached, cached]]) {
      for (const block of change.drop) blocks.delete(block);
      for (const block of change.add) {
        blocks.add(block);
        this.highest = Math.max(this.highest, block);
      }
    }
  }

  #applyCached({ add, hashes, drop }) {
    for (const block of drop) this.cached.delete(block);
    add.forEach((block, index) => {
      this.cached.set(block, hashes.slice(8 * index, 8 * index + 8));
      this.highest = Math.max(this.highest, block);
    });
  }

  #applySteps({ steps, ids, skipped }) {
    if (skipped && this.steps.length) this.steps.at(-1).skippedAfter = skipped;
    for (const { n, ms, forward, who, others, preempted } of steps) {
      this.steps.push({
        n, ms, forward, others, preempted: preempted[0].map((id) => this.names.of(ids[id])), othersPreempted: preempted[1],
        who: who.map(([id, tokens, isDecode, before]) => ({ name: this.names.of(ids[id]), tokens, isDecode, before })),
      });
    }
    this.steps.splice(0, this.steps.length - KEPT_STEPS);
  }

  #sample(time) {
    this.samples.push({ time, generated: this.metrics.generated, computed: this.metrics.computed });
    while (time - this.samples[0].time > RATE_SECONDS) this.samples.shift();
  }

  /** How fast a counter has grown in the last seconds; null if that isn't known yet. */
  rate(counter) {
    const first = this.samples[0], last = this.samples.at(-1);
    if (!first || last.time - first.time < 0.1) return null;
    return (last[counter] - first[counter]) / (last.time - first.time);
  }

  /** What a block is at the moment: its kind, who holds it, and the tokens in it as far as they are known. */
  block(number) {
    const owners = this.owners.get(number) ?? [];
    const hash = this.cached.get(number);
    if (owners.length) return { number, kind: owners.length > 1 ? "shared" : "used", owners, hash };
    if (this.others.used.has(number)) return { number, kind: "other", owners };
    if (hash) return { number, kind: "cached", owners, hash };
    return { number, kind: this.others.cached.has(number) ? "cached-other" : "free", owners };
  }

  /** Which part of a request's tokens a block holds: [first, how many are computed]. */
  tokensIn(request, number) {
    const first = request.table.indexOf(number) * this.pool.block_size;
    return [first, Math.max(0, Math.min(request.computed - first, this.pool.block_size))];
  }
}

/** Waits, reads its prompt, or writes. */
export function phase(request) {
  if (!request.running) return request.preempted ? "preempted" : "waiting";
  return request.computed < request.prompt ? "prefill" : "decode";
}

/** Requests get a letter and a color as they come. A letter is used again when its turn comes and nobody has it. */
class Names {
  #byId = new Map();
  #next = 0;

  of(id) {
    if (!this.#byId.has(id)) this.#byId.set(id, this.#fresh(id));
    return this.#byId.get(id);
  }

  #fresh(id) {
    const taken = new Set([...this.#byId.values()].map((name) => name.letter));
    let letter;
    do {
      const index = this.#next++;
      letter = String.fromCharCode(65 + (index % 26)) + (taken.size < 26 ? "" : Math.floor(index / 26) % 10);
    } while (taken.has(letter) && taken.size < 260);
    const color = COLORS[(this.#next - 1) % COLORS.length];
    return { id, letter, color, ink: color === "#0072B2" ? "#FFFFFF" : "#000000", isGone: false };
  }

  /** Marks those that have left, and forgets the oldest of them, once there are many. */
  keep(requests) {
    const gone = [...this.#byId.values()].filter((name) => !requests.has(name.id));
    for (const name of this.#byId.values()) name.isGone = !requests.has(name.id);
    for (const name of gone.slice(0, Math.max(0, gone.length - KEPT_NAMES))) this.#byId.delete(name.id);
  }
}
