// A ZIP file of a few files, stored as they are: pictures are compressed already.

const CRC = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
const UTF8_NAMES = 0x0800;

/** A Blob with these files: [[name, Uint8Array], ...]. */
export function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, data] of files) {
    const bytes = new TextEncoder().encode(name);
    const entry = fields(bytes.length, data);
    const local = record(0x04034b50, [[2, 20], ...entry], bytes);
    directory.push(record(0x02014b50, [[2, 20], [2, 20], ...entry, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]], bytes));
    parts.push(local, data);
    offset += local.length + data.length;
  }
  const size = directory.reduce((sum, one) => sum + one.length, 0);
  const count = files.length;
  const end = record(0x06054b50, [[2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// what a file's own header and the directory share: [bytes, value] each
function fields(nameLength, data) {
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const day = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  const length = data.length;
  return [[2, UTF8_NAMES], [2, 0], [2, time], [2, day], [4, crc32(data)], [4, length], [4, length], [2, nameLength], [2, 0]];
}

function record(signature, values, tail = new Uint8Array()) {
  const all = [[4, signature], ...values];
  const head = all.reduce((sum, [bytes]) => sum + bytes, 0);
  const result = new Uint8Array(head + tail.length);
  const view = new DataView(result.buffer);
  let at = 0;
  for (const [bytes, value] of all) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  result.set(tail, head);
  return result;
}

function crc32(data) {
  let crc = 0xffffffff;
  for (const byte of data) crc = CRC[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
