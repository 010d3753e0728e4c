// Dark or light: what the reader chose, else what the system has. Runs before the page is drawn, so that it doesn't
// flash; hence no module.
"use strict";

(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => localStorage.getItem("minillm-theme");
  const apply = () => {
    document.documentElement.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
    document.dispatchEvent(new Event("theme"));
  };

  system.addEventListener("change", apply);
  apply();

  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      localStorage.setItem("minillm-theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
      apply();
    });
  });
})();
