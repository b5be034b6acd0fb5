// What can be used or seen, but has no name that a screen reader could say.
() => {
  const usable = [...document.querySelectorAll("input, button, [role=img], progress")];
  const named = (one) => one.labels?.length || one.ariaLabel || one.textContent.trim() || one.closest("label");
  return usable.filter((one) => !named(one)).map((one) => one.outerHTML);
}
