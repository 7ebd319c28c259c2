"use strict";
// The page is whole without this: it adds a button to copy commands, and one that opens all tables.
for (const box of document.querySelectorAll(".commands")) {
  const button = box.querySelector("button");
  const said = box.querySelector("[role=status]");
  const text = box.querySelector("pre").textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = document.createElement("textarea"); // where a file may not use the clipboard
      field.value = text;
      document.body.append(field);
      field.select();
      done = document.execCommand("copy");
      field.remove();
      button.focus();
    }
    said.textContent = done ? "Copied." : "Not copied: select the text and copy it.";
  });
}
for (const button of document.querySelectorAll("[data-tables]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-pressed") !== "true";
    for (const one of document.querySelectorAll("details.numbers")) one.open = open;
    button.setAttribute("aria-pressed", String(open));
  });
}
