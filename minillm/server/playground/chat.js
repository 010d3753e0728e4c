// The chat: one conversation, or several side by side that are asked the same, so that a batch can be seen.

import { ServerError, events, inWords, request } from "./api.js";
import { count } from "./canvas.js";

const EXAMPLES = [
  ["One question", { lanes: 1, text: "What is a KV cache? Answer in two sentences." }],
  ["Four at once: a batch", { lanes: 4, text: "Tell me a short story about a lighthouse." }],
  [
    "Four that share a prompt’s blocks",
    {
      lanes: 4,
      firstFirst: true,
      system:
        "You are the guide of a museum of computing. You know the abacus, the mechanical calculators, the tube " +
        "machines, the mainframes, the home computers and the accelerators of today. You answer in a friendly voice, " +
        "in whole sentences, and end each answer with a question to the visitor.",
      text: "Which machine should I see first, and why?",
    },
  ],
  ["Eight answers to one request", { lanes: 8, asOne: true, text: "Think of a name for a boat, and say why it fits." }],
];

const MOST_CONNECTIONS = 5; // browsers open six to one server, and one of them follows the engine

const element = (id) => document.getElementById(id);

export class Chat {
  #lanes = [];
  #model = null;
  #abort = new AbortController(); // of what is asked now

  /**
   * @param names gives requests their letters
   * @param onUnauthorized is called where a key is missing
   */
  constructor(names, onUnauthorized) {
    this.names = names;
    this.onUnauthorized = onUnauthorized;
    element("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    element("prompt").addEventListener("keydown", (event) => {
      // While an input method composes a character, Enter belongs to it.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.stop());
    element("stop").addEventListener("click", () => this.stop());
    element("settings").addEventListener("input", () => this.#summarize());
    element("new-chat").addEventListener("click", () => this.begin());
    element("lanes-number").addEventListener("change", () => this.#setLanes(this.#number("lanes-number", 1)));
    element("examples").replaceChildren(...EXAMPLES.map(([title, example]) => this.#exampleButton(title, example)));
    this.#setLanes(1);
    this.#summarize();
  }

  /** Learns which model is served. */
  async connect() {
    const models = await (await request("v1/models")).json();
    this.#model = models.data[0].id;
    return this.#model;
  }

  get isBusy() {
    return this.#lanes.some((lane) => lane.isBusy);
  }

  /** Begins anew: what was said is forgotten. */
  begin() {
    this.stop();
    this.#lanes = [];
    element("lanes").replaceChildren();
    this.#setLanes(this.#number("lanes-number", 1));
    element("welcome").hidden = false;
    element("prompt").focus();
  }

  /** Ends all answers; the server notices, and the engine aborts them. */
  stop() {
    this.#abort.abort();
  }

  #setLanes(number) {
    number = Math.max(1, Math.min(16, Math.round(number)));
    element("lanes-number").value = number;
    while (this.#lanes.length > number) this.#lanes.pop().root.remove();
    while (this.#lanes.length < number) {
      const lane = new Lane(this.#lanes.length + 1, () => this.#showState());
      this.#lanes.push(lane);
      element("lanes").append(lane.root);
    }
    element("lanes").dataset.number = number;
    this.#showState();
  }

  #showState() {
    element("send").hidden = this.isBusy;
    element("stop").hidden = !this.isBusy;
    element("lanes-number").disabled = this.isBusy;
    element("welcome").hidden = this.#lanes.some((lane) => lane.hasBegun);
  }

  /** What is set, also where the settings are closed. */
  #summarize() {
    const [temperature, most, seed] = ["temperature", "max-tokens", "seed"].map((id) => this.#number(id, null));
    const words = [
      temperature === null ? null : `temperature ${temperature}`,
      most === null ? null : `at most ${count(most, "token")}`,
      seed === null ? "random seed" : `seed ${seed}`,
      element("system").value.trim() ? "with a system prompt" : null,
      element("first-first").checked ? "the first one begins" : null,
      element("as-one").checked ? "as one request" : null,
    ];
    element("settings-summary").textContent = words.filter((each) => each !== null).join(", ");
  }

  #number(id, fallback) {
    const value = element(id).valueAsNumber;
    return Number.isFinite(value) ? value : fallback;
  }

  /** The fields of a request but for its messages. What isn't filled in is left to the server. */
  #options(index) {
    const options = { model: this.#model, stream: true, stream_options: { include_usage: true } };
    for (const [field, id] of [["temperature", "temperature"], ["max_tokens", "max-tokens"], ["seed", "seed"]]) {
      const value = this.#number(id, null);
      if (value !== null) options[field] = value;
    }
    // With the same seed for all of them, the answers would be one answer.
    if ("seed" in options) options.seed += index;
    return options;
  }

  async #send() {
    const text = element("prompt").value.trim();
    if (!text || this.isBusy) return;
    element("prompt").value = "";
    this.#abort = new AbortController();
    for (const lane of this.#lanes) lane.begin(text);
    const waiting = this.#groups();
    const asked = this.#ask(waiting.shift(), text);
    if (element("first-first").checked) await asked.firstToken;
    // A few at a time: what the browser holds back for want of a connection would look as if the engine did.
    for (const lane of waiting.slice(MOST_CONNECTIONS - 1).flat()) lane.note("Waits in this page: a browser opens only six connections to a server.");
    const work = async () => {
      while (waiting.length) await this.#ask(waiting.shift(), text).end;
    };
    const others = Array.from({ length: MOST_CONNECTIONS - 1 }, work);
    await asked.end;
    await Promise.all([work(), ...others]);
  }

  /** Those that go together in one request. */
  #groups() {
    if (!element("as-one").checked) return this.#lanes.map((lane) => [lane]);
    const groups = new Map();
    for (const lane of this.#lanes) {
      const key = JSON.stringify(lane.history);
      groups.set(key, [...(groups.get(key) ?? []), lane]);
    }
    return [...groups.values()];
  }

  /** Asks one request's lanes; returns promises of its first token and of its end. Neither ever fails. */
  #ask(lanes, text) {
    let onToken;
    const firstToken = new Promise((resolve) => (onToken = resolve));
    const end = this.#stream(lanes, text, onToken).catch((error) => {
      for (const lane of lanes) lane.fail(error, this.#isStopped(error));
      if (this.#isStopped(error)) return;
      if (!element("prompt").value) element("prompt").value = text; // to be sent again
      if (error instanceof ServerError && error.status === 401) this.onUnauthorized();
    });
    end.finally(onToken);
    return { firstToken, end };
  }

  #isStopped(error) {
    return error.name === "AbortError";
  }

  /** Asks the model, and shows the answers as they come. */
  async #stream(lanes, text, onToken) {
    const { signal } = this.#abort;
    signal.throwIfAborted();
    if (this.#model === null) await this.connect();
    const system = element("system").value.trim();
    const messages = [...lanes[0].history, { role: "user", content: text }];
    if (system) messages.unshift({ role: "system", content: system });
    const options = this.#options(this.#lanes.indexOf(lanes[0]));
    if (lanes.length > 1) options.n = lanes.length;
    const times = { begin: performance.now(), first: null };
    const response = await request("v1/chat/completions", { body: { ...options, messages }, signal });
    // The engine knows the request by the name that the server gave it; the further ones of n answers have a number.
    const id = response.headers.get("x-request-id");
    lanes.forEach((lane, index) => lane.tag(this.names.of(index ? `${id}#${index}` : id)));
    const reasons = [];
    let usage = null;
    for await (const event of events(response)) {
      usage = event.usage ?? usage;
      for (const { index, delta, finish_reason } of event.choices) {
        if (delta.content) lanes[index].write(delta.content);
        if (delta.content && times.first === null) times.first = performance.now();
        if (finish_reason) reasons[index] = finish_reason;
        if (delta.content || finish_reason) onToken();
      }
    }
    if (Object.keys(reasons).length < lanes.length) throw new ServerError("The server closed the connection.");
    lanes.forEach((lane, index) => lane.finish(inNumbers(usage, reasons[index], times, lanes.length), true));
  }

  #exampleButton(title, { lanes, text, system = "", firstFirst = false, asOne = false }) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.addEventListener("click", () => {
      this.#setLanes(lanes);
      element("system").value = system;
      element("first-first").checked = firstFirst;
      element("as-one").checked = asOne;
      this.#summarize();
      element("prompt").value = text;
      element("prompt").focus();
      this.#send();
    });
    item.append(button);
    return item;
  }
}

/** One conversation. */
class Lane {
  #pending = null; // the answer that is awaited: its question, and where it is shown

  constructor(number, onChange) {
    this.history = []; // what the model is told of it: failed turns aren't
    this.onChange = onChange;
    this.root = make("section", "lane");
    this.root.setAttribute("aria-label", `Chat ${number}`);
    this.title = make("h3", "lane-title", `Chat ${number}`);
    this.log = make("div", "log");
    // Read aloud when an answer is complete (aria-busy), not word by word.
    for (const [name, value] of [["role", "log"], ["aria-live", "polite"], ["aria-label", `Chat ${number}`], ["tabindex", "0"]]) {
      this.log.setAttribute(name, value);
    }
    this.root.append(this.title, this.log);
  }

  get isBusy() {
    return this.#pending !== null;
  }

  get hasBegun() {
    return this.log.childElementCount > 0;
  }

  /** Shows the question, and room for the answer. */
  begin(question) {
    this.#message("You", "user").append(make("p", "text", question));
    const message = this.#message("Model", "assistant");
    const text = make("p", "text waiting");
    const meta = make("p", "meta");
    message.append(text, meta);
    this.#pending = { question, message, text, meta };
    this.log.setAttribute("aria-busy", "true");
    this.onChange(); // which may be what brings it into sight
    this.#scroll();
  }

  /** Shows which of the engine's requests this one is. */
  tag(name) {
    const chip = this.title.querySelector(".chip") ?? this.title.appendChild(make("span", "chip"));
    chip.textContent = name.letter;
    chip.title = `Request ${name.letter} of the engine, ${name.id}`;
    chip.style.backgroundColor = name.color;
    chip.style.color = name.ink;
    this.note("");
  }

  /** Says something below the answer. */
  note(words) {
    this.#pending.meta.textContent = words;
    this.#scroll();
  }

  /** Appends a piece of the answer. */
  write(piece) {
    const { text } = this.#pending;
    const isAtEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
    text.classList.replace("waiting", "writing");
    text.append(piece); // as text: what a model writes is never taken for HTML
    if (isAtEnd) this.#scroll(); // not where somebody has scrolled up to read
  }

  /** Ends the turn. `isKept` tells whether the model is to hear of it again. */
  finish(words, isKept) {
    const { question, text, meta } = this.#pending;
    if (isKept) this.history.push({ role: "user", content: question }, { role: "assistant", content: text.textContent });
    text.normalize(); // one text node in place of one for each token
    text.classList.remove("waiting", "writing");
    text.hidden = !text.textContent;
    meta.textContent = words;
    this.#pending = null;
    this.log.setAttribute("aria-busy", "false");
    this.#scroll();
    this.onChange();
  }

  /** Ends the turn early: the reader stopped it, or something went wrong. */
  fail(error, isStopped) {
    const { message, text } = this.#pending;
    if (isStopped) return this.finish("Stopped.", text.textContent !== "");
    const alert = make("p", "error", (text.textContent ? "The answer isn’t complete. " : "") + inWords(error));
    alert.setAttribute("role", "alert");
    message.append(alert);
    this.finish("", false);
  }

  #message(who, kind) {
    const message = make("article", `message ${kind}`);
    message.append(make("h4", "who", who));
    this.log.append(message);
    return message;
  }

  #scroll() {
    this.log.scrollTop = this.log.scrollHeight;
  }
}

function make(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** "42 tokens, 18.3 a second; first one after 0.21 s; 48 of 64 prompt tokens cached." */
function inNumbers(usage, reason, { begin, first }, number) {
  const parts = [];
  const begun = first ?? performance.now();
  if (usage) {
    const speed = (1000 * (usage.completion_tokens - 1)) / (performance.now() - begun);
    const all = number > 1 ? ` in all ${number} answers` : "";
    parts.push(count(usage.completion_tokens, "token") + all + (usage.completion_tokens > 1 ? `, ${speed.toFixed(1)} a second` : ""));
  }
  parts.push(`first one after ${((begun - begin) / 1000).toFixed(2)} s`);
  if (usage) parts.push(`${usage.prompt_tokens_details.cached_tokens} of ${usage.prompt_tokens} prompt tokens cached`);
  if (reason === "length") parts.push("cut off at max tokens");
  return `${parts.join("; ")}.`;
}
