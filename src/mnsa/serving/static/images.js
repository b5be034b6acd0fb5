// Images of a result: URLs for base64 data, and the attention map as a heatmap.

/** Make an object URL for base64 data. Free it with URL.revokeObjectURL. */
export function objectUrl(base64, type) {
  return URL.createObjectURL(decodeBlob(base64, type));
}

/** Draw a gray attention map on a small canvas. The minimum is transparent, the maximum red. */
export async function drawAttention(canvas, attention) {
  const { width, height, png } = attention;
  const bitmap = await createImageBitmap(decodeBlob(png, "image/png"));
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const image = context.getImageData(0, 0, width, height);
  const values = image.data.filter((_, index) => index % 4 === 0);
  const minimum = Math.min(...values);
  const range = Math.max(...values) - minimum || 1;
  values.forEach((value, index) => {
    const strength = (value - minimum) / range;
    image.data.set([255, 235 - 195 * strength, 90 - 90 * strength, 255 * strength], index * 4);
  });
  context.putImageData(image, 0, 0);
}

function decodeBlob(base64, type) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type });
}
