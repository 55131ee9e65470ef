// Before anything is shown: light or dark, as chosen here or as the system says.
"use strict";

(() => {
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  const chosen = () => {
    try {
      return window.localStorage.getItem("muster-theme");
    } catch {
      return null;
    }
  };
  const apply = () => {
    root.setAttribute("data-bs-theme", chosen() || (system.matches ? "dark" : "light"));
  };

  apply();
  system.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme")?.addEventListener("click", () => {
      const next = root.getAttribute("data-bs-theme") === "dark" ? "light" : "dark";
      try {
        window.localStorage.setItem("muster-theme", next);
      } catch {
        // Not kept, but shown.
      }
      root.setAttribute("data-bs-theme", next);
      document.dispatchEvent(new CustomEvent("muster:theme"));
    });
  });
})();
