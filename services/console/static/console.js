// What every page does besides htmx: times of the viewer, keys.
"use strict";

(() => {
  const units = [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
    ["second", 1],
  ];
  const relative = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto" });
  const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

  const ago = (instant) => {
    const seconds = (instant.getTime() - Date.now()) / 1000;
    if (Math.abs(seconds) > 30 * 86400) {
      return absolute.format(instant);
    }
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) || units[3];
    return relative.format(Math.round(seconds / size), unit);
  };

  const tell = () => {
    for (const element of document.querySelectorAll("time[datetime]")) {
      const instant = new Date(element.dateTime);
      const text = ago(instant);
      if (element.textContent !== text) {
        element.textContent = text;
      }
      if (!element.dataset.utc) {
        element.dataset.utc = element.title;
        element.title = `${absolute.format(instant)} · ${element.title}`;
      }
    }
  };

  tell();
  document.addEventListener("htmx:afterSettle", tell);
  document.addEventListener("htmx:sseMessage", tell);
  window.setInterval(tell, 15000);

  // What unfolded over a page folds when one goes on elsewhere, or presses Escape.
  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll("details.chooser[open]")) {
      if (!open.contains(event.target)) {
        open.open = false;
      }
    }
  });
  document.addEventListener("keydown", (event) => {
    const open = event.key === "Escape" && document.querySelector("details.chooser[open]");
    if (open) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });

  // Rows that are exchanged by news stay selected; the number stands on the button.
  const selected = new Set();
  const boxes = () => [...document.querySelectorAll("[data-select]")];
  const showSelected = () => {
    const all = document.querySelector("[data-select-all]");
    const here = boxes();
    for (const box of here) {
      box.checked = selected.has(box.value);
    }
    for (const value of selected) {
      if (!here.some((box) => box.value === value)) {
        selected.delete(value);
      }
    }
    for (const place of document.querySelectorAll("[data-selected]")) {
      place.textContent = selected.size ? `: ${selected.size}` : "";
    }
    if (all) {
      all.hidden = false;
      all.checked = here.length > 0 && selected.size === here.length;
    }
  };
  document.addEventListener("change", (event) => {
    const box = event.target;
    if (box.matches("[data-select-all]")) {
      boxes().forEach((one) => (box.checked ? selected.add(one.value) : selected.delete(one.value)));
      showSelected();
    } else if (box.matches("[data-select]")) {
      box.checked ? selected.add(box.value) : selected.delete(box.value);
      showSelected();
    }
  });
  showSelected();
  document.addEventListener("htmx:afterSettle", showSelected);
  document.addEventListener("htmx:sseMessage", showSelected);

  // What was shown once is taken off the screen, also from a page that is only gone back to.
  for (const shown of document.querySelectorAll("[data-forget]")) {
    const forget = () => {
      shown.textContent = shown.dataset.forgotten;
      shown.classList.remove("display-4", "font-monospace");
    };
    window.setTimeout(forget, Number(shown.dataset.forget) * 1000);
    window.addEventListener("pagehide", forget);
  }

  // "/" goes to the search; j and k through rows that can be opened.
  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input, textarea, select, [contenteditable]");
    if (writing || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    if (event.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) {
        event.preventDefault();
        search.focus();
      }
      return;
    }
    if (event.key === "j" || event.key === "k") {
      const rows = [...document.querySelectorAll("[data-row] a[data-open]")];
      const at = rows.indexOf(document.activeElement);
      const next = rows[event.key === "j" ? at + 1 : Math.max(at - 1, 0)];
      next?.focus();
    }
  });

  // A file is put into the field that is sent: as text where it is XML, else as base64.
  const written = (bytes) => {
    try {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      if (text.trimStart().startsWith("<")) {
        return text;
      }
    } catch {
      // It is signed, and no text.
    }
    let binary = "";
    for (const byte of new Uint8Array(bytes)) {
      binary += String.fromCharCode(byte);
    }
    return btoa(binary);
  };
  for (const chooser of document.querySelectorAll("[data-file-into]")) {
    const field = document.getElementById(chooser.dataset.fileInto);
    chooser.hidden = false;
    chooser.addEventListener("change", async () => {
      const [file] = chooser.files;
      if (!file) {
        return;
      }
      field.setCustomValidity("");
      const text = written(await file.arrayBuffer());
      if (text.length > field.maxLength) {
        field.value = "";
        field.setCustomValidity(`${file.name} is too long.`);
        field.reportValidity();
      } else {
        field.value = text;
      }
    });
    field.addEventListener("input", () => field.setCustomValidity(""));
  }
})();
