// A mask on a canvas: class indices that are drawn on, with undo and redo.

const MAX_UNDO = 100;

export class MaskCanvas {
  /** classes: [{ value, color }]. onChange: called after each change. */
  constructor(canvas, classes, onChange) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.colors = new Map(classes.map(({ value, color }) => [value, parseColor(color)]));
    this.onChange = () => {};
    this.clear();
    this.onChange = onChange;
  }

  /** Forget the mask. */
  clear() {
    this.load(new Uint8Array(0), 0, 0);
  }

  /** Show a mask: one class index per pixel. */
  load(values, width, height) {
    Object.assign(this, { values, width, height, done: [], undone: [], before: null });
    Object.assign(this, { version: 0, versions: 0, savedVersion: 0 });
    Object.assign(this.canvas, { width, height });
    this.draw({ left: 0, top: 0, right: width, bottom: height });
    this.onChange();
  }

  get isLoaded() { return this.width > 0; }
  get isChanged() { return this.version !== this.savedVersion; }
  get canUndo() { return this.done.length > 0; }
  get canRedo() { return this.undone.length > 0; }

  /** The mask of this version is saved. */
  markSaved(version) {
    this.savedVersion = version;
    this.onChange();
  }

  /** Begin a change that one undo takes back. */
  begin() {
    this.before = this.values.slice();
    this.box = null;
  }

  /** Paint a line of round ends between two points, in pixels. */
  line(from, to, width, value) {
    const radius = Math.max(0.5, width / 2);
    const left = Math.max(0, Math.floor(Math.min(from.x, to.x) - radius));
    const top = Math.max(0, Math.floor(Math.min(from.y, to.y) - radius));
    const right = Math.min(this.width, Math.ceil(Math.max(from.x, to.x) + radius));
    const bottom = Math.min(this.height, Math.ceil(Math.max(from.y, to.y) + radius));
    const [dx, dy] = [to.x - from.x, to.y - from.y];
    const length2 = dx * dx + dy * dy;
    for (let y = top; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1) {
        const [px, py] = [x + 0.5 - from.x, y + 0.5 - from.y]; // pixels have their centers at .5
        const t = length2 ? Math.min(1, Math.max(0, (px * dx + py * dy) / length2)) : 0;
        if (Math.hypot(px - t * dx, py - t * dy) <= radius) this.values[y * this.width + x] = value;
      }
    }
    const box = { left, top, right, bottom };
    this.box = this.box ? union(this.box, box) : box;
    this.draw(box);
  }

  /** End a change. */
  commit() {
    if (this.before && this.box && this.box.right > this.box.left && this.box.bottom > this.box.top) {
      this.done.push({ box: this.box, values: cut(this.before, this.width, this.box), version: this.version });
      if (this.done.length > MAX_UNDO) this.done.shift();
      this.undone = [];
      this.version = ++this.versions;
    }
    this.before = null;
    this.onChange();
  }

  /** Take back a change that has not ended. */
  cancel() {
    if (!this.before) return;
    this.values = this.before;
    this.before = null;
    if (this.box) this.draw(this.box);
  }

  undo() { this.swap(this.done, this.undone); }
  redo() { this.swap(this.undone, this.done); }

  swap(from, to) {
    const change = from.pop();
    if (!change) return;
    to.push({ box: change.box, values: cut(this.values, this.width, change.box), version: this.version });
    paste(this.values, this.width, change.box, change.values);
    this.version = change.version;
    this.draw(change.box);
    this.onChange();
  }

  draw({ left, top, right, bottom }) {
    if (right <= left || bottom <= top) return;
    const image = this.context.createImageData(right - left, bottom - top);
    const pixels = new Uint32Array(image.data.buffer);
    for (let y = top, n = 0; y < bottom; y += 1) {
      for (let x = left; x < right; x += 1, n += 1) pixels[n] = this.colors.get(this.values[y * this.width + x]) ?? 0;
    }
    this.context.putImageData(image, left, top);
  }
}

function parseColor(hex) { // "#rrggbb" -> a pixel of a canvas, opaque
  const bytes = [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  return new Uint32Array(new Uint8Array([...bytes, 255]).buffer)[0];
}

function union(a, b) {
  return {
    left: Math.min(a.left, b.left), top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
  };
}

function cut(values, width, { left, top, right, bottom }) {
  const part = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y += 1) {
    part.set(values.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return part;
}

function paste(values, width, { left, top, right, bottom }, part) {
  for (let y = top; y < bottom; y += 1) {
    values.set(part.subarray((y - top) * (right - left), (y - top + 1) * (right - left)), y * width + left);
  }
}
