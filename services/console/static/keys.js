// Security keys and passkeys (WebAuthn): buttons ask our server, then the browser, then answer.
"use strict";

(() => {
  const token = () => JSON.parse(document.body.getAttribute("hx-headers"))["X-CSRF-Token"];

  const send = async (path, body) => {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": token() },
      body: JSON.stringify(body),
    });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      throw new Error(said.detail || `The server answered ${answer.status}.`);
    }
    return said;
  };

  const complain = (text) => {
    const place = document.getElementById("key-complaint");
    if (place) {
      place.textContent = text;
      place.hidden = !text;
    }
  };

  const explained = (error) =>
    error.name === "NotAllowedError" ? "The key was not used. Nothing was changed: try again." : error.message;

  const use = async (button) => {
    complain("");
    button.disabled = true;
    try {
      const data = button.dataset;
      const creates = data.keyCreate || data.keyOptions;
      const given = data.keyOptions || data.keyRequest;
      const asked = given
        ? JSON.parse(given)
        : await send(data.keyCreate || data.keyAsk, JSON.parse(data.keyBody || "{}"));
      const credential = creates
        ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(asked) })
        : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(asked) });
      const body = { ...JSON.parse(data.keyBody || "{}"), credential: credential.toJSON() };
      const said = await send(data.keyAnswer, body);
      const form = data.keyForm && document.getElementById(data.keyForm);
      if (form) {
        form.elements.csrf.value = said.csrf;
        form.submit();
      } else {
        window.location.assign(data.keyNext);
      }
    } catch (error) {
      complain(explained(error));
      button.disabled = false;
    }
  };

  // This file is here before the page's body: a button works as soon as it can be seen.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-key-answer]");
    if (button) {
      use(button);
    }
  });
})();
