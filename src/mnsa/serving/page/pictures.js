// Pictures out of an answer: Blobs to show, the attention map in colours, and the overlay for the ZIP file.

const OVERLAY = 0.6; // as strong as in `mnsa predict`

/** The bytes that a base64 text stands for. */
export function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** An address under which the page can show these bytes, until URL.revokeObjectURL. */
export function addressOf(text, type) {
  return URL.createObjectURL(new Blob([bytesOf(text)], { type }));
}

/** Draw a grey attention map on a small canvas: the lowest value is see-through, the highest glows. */
export async function drawAttention(canvas, attention) {
  const { width, height, png } = attention;
  const picture = await createImageBitmap(new Blob([bytesOf(png)], { type: "image/png" }));
  Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.drawImage(picture, 0, 0);
  const pixels = pen.getImageData(0, 0, width, height);
  const greys = pixels.data.filter((_, index) => index % 4 === 0);
  const low = Math.min(...greys);
  const range = Math.max(...greys) - low || 1;
  greys.forEach((grey, index) => {
    const heat = (grey - low) / range;
    pixels.data.set([255, 235 - 195 * heat, 90 - 90 * heat, 255 * heat], index * 4);
  });
  pen.putImageData(pixels, 0, 0);
}

/** A photo and its mask in one JPEG, of the preview's size. */
export async function overlay(preview, mask) {
  const [photo, tint] = await Promise.all(
    [[preview, "image/jpeg"], [mask, "image/png"]].map(([text, type]) => createImageBitmap(new Blob([bytesOf(text)], { type }))),
  );
  const canvas = new OffscreenCanvas(photo.width, photo.height);
  const pen = canvas.getContext("2d");
  pen.drawImage(photo, 0, 0);
  pen.globalAlpha = OVERLAY;
  pen.drawImage(tint, 0, 0, photo.width, photo.height);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.88 });
  return new Uint8Array(await blob.arrayBuffer());
}
