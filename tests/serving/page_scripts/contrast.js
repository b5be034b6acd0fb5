// Texts whose contrast with their background is below 4.5 (WCAG 2.2, 1.4.3).
() => {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const background = (one) => {
    const color = rgba(getComputedStyle(one).backgroundColor);
    return color[3] > 250 || !one.parentElement ? color : background(one.parentElement);
  };
  const hasText = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const shown = (one) => one.checkVisibility({ opacityProperty: true }) && !one.disabled && !one.closest(":disabled");
  const texts = [...document.querySelectorAll("body *")].filter((one) => hasText(one) && shown(one));
  return texts.flatMap((one) => {
    const [a, b] = [rgba(getComputedStyle(one).color), background(one)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    return ratio < 4.5 ? [`${one.tagName}.${one.className} ${one.textContent.trim().slice(0, 20)} ${ratio.toFixed(2)}`] : [];
  });
}
