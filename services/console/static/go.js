// A page on the way to an identity provider, or back: it goes on by itself.
"use strict";

(() => {
  const link = document.querySelector("a[data-go]");
  const form = document.querySelector("form[data-go]");
  if (link) {
    window.location.replace(link.href);
  } else if (form) {
    form.submit();
  }
})();
