// Controls and images without an accessible name.
() => {
  const controls = [...document.querySelectorAll("input, button, [role=img], progress")];
  const named = (one) => one.labels?.length || one.ariaLabel || one.textContent.trim() || one.closest("label");
  return controls.filter((one) => !named(one)).map((one) => one.outerHTML);
}
