// How Marp turns a deck into HTML, PDF and PPTX; `build.py` calls it and sets DECK_FOLDER.
// Every picture and font is embedded, so each output is one file that needs no network.
import { readFileSync } from "node:fs";
import { dirname, extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const deckFolder = process.env.DECK_FOLDER ?? here;

const mediaTypes = {
  ".gif": "image/gif",
  ".jpeg": "image/jpeg",
  ".jpg": "image/jpeg",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".webp": "image/webp",
  ".woff2": "font/woff2",
};

/** The file at `url`, relative to `folder`, as a data URI; anything that already has a scheme stays as it is. */
function dataUri(url, folder) {
  if (/^([a-z][a-z0-9+.-]*:|#)/i.test(url)) return url;
  const path = resolve(folder, decodeURIComponent(url));
  const mediaType = mediaTypes[extname(path).toLowerCase()];
  if (!mediaType) throw new Error(`${url}: not a picture or font that a slide can embed`);
  return `data:${mediaType};base64,${readFileSync(path).toString("base64")}`;
}

const embedPictures = (html) =>
  html
    .replace(/(<(?:img|source)\b[^>]*?\ssrc=")([^"]+)(")/g, (_, a, url, z) => a + dataUri(url, deckFolder) + z)
    .replace(/(url\(&quot;)(.+?)(&quot;\))/g, (_, a, url, z) => a + dataUri(url, deckFolder) + z);

const embedFonts = (css) =>
  css.replace(/(url\(")(.+?)("\))/g, (_, a, url, z) => a + dataUri(url, here) + z);

export default {
  theme: resolve(here, "theme.css"),
  lang: "en",
  html: true,
  bespoke: { transition: false },
  options: { emoji: { shortcode: false, unicode: false }, math: "mathjax" },
  engine: ({ marp }) => {
    const render = marp.render.bind(marp);
    marp.render = (...args) => {
      const { html, css, ...rest } = render(...args);
      const embedded = Array.isArray(html) ? html.map(embedPictures) : embedPictures(html);
      return { html: embedded, css: embedFonts(css), ...rest };
    };
    return marp;
  },
};
