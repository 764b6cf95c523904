// Buttons of the cards: tells the page which job is meant, and what to do with it.
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  if (["again", "watch"].includes(button.dataset.act)) scrollTo({ top: 0, behavior: "smooth" });
  trigger("click", { act: button.dataset.act, key: button.closest("[data-key]").dataset.key });
});
element.addEventListener("mouseover", (event) => { if (event.target.tagName === "VIDEO") event.target.play().catch(() => {}); });
element.addEventListener("mouseout", (event) => { if (event.target.tagName === "VIDEO") event.target.pause(); });
