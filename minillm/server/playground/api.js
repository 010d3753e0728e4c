// What the page asks of the server: the same API that every OpenAI client uses, and the stream of the engine's steps.

const KEY = "minillm-api-key";

/** The API key. It is kept for this tab only, and never becomes part of an address. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** An answer other than 200, or an error in the middle of a stream, in the server's own words. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Fetches a path of this server. Addresses are relative, so that the page also works behind a proxy's prefix. */
export async function request(path, { body, signal } = {}) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body) headers["Content-Type"] = "application/json";
  const method = body ? "POST" : "GET";
  const response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
  if (!response.ok) throw new ServerError(await errorText(response), response.status);
  return response;
}

async function errorText(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}

/**
 * The events of a stream as objects, up to its end or to "[DONE]". `onBytes` is told of whatever arrives.
 *
 * Not an EventSource: that can neither send a key nor POST.
 */
export async function* events(response, onBytes = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onBytes();
      buffer += value;
      const blocks = buffer.split("\n\n");
      buffer = blocks.pop(); // not complete yet
      for (const block of blocks) {
        const data = block.replace(/^data: /, "");
        if (data === "[DONE]") return;
        const event = JSON.parse(data);
        if (event.error) throw new ServerError(event.error.message);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What went wrong, for people. */
export function inWords(error) {
  if (error instanceof ServerError) return error.message;
  if (error instanceof TypeError) return "The server can't be reached. Is it still running?"; // fetch's way to say so
  return `Something went wrong: ${error.message}`;
}
