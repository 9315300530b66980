/** PNG files: exact pixels, and lines of text about them. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const [RGB, RGBA] = [2, 6];
const PAETH = 4; // a filter of rows

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let value = n;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/**
 * Return the bytes of a PNG file.
 *
 * @param {{height: number, width: number, data: Uint8ClampedArray}} photo
 * @param {Object<string, string>} texts by keyword; characters that are not ASCII are escaped
 * @returns {Promise<Blob>}
 */
export async function encodePng(photo, texts) {
  const { height, width, data } = photo;
  let opaque = true;
  for (let i = 3; i < data.length && opaque; i += 4) opaque = data[i] === 255;
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, width);
  head.setUint32(4, height);
  head.setUint8(8, 8); // bits
  head.setUint8(9, opaque ? RGB : RGBA);
  const stream = new Blob([filtered(photo, opaque ? 3 : 4)])
    .stream()
    .pipeThrough(new CompressionStream("deflate"));
  const pixels = new Uint8Array(await new Response(stream).arrayBuffer());
  const chunks = [chunk("IHDR", new Uint8Array(head.buffer))];
  for (const [keyword, text] of Object.entries(texts)) {
    const escaped = text.replace(
      /[^\x20-\x7e]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    chunks.push(chunk("tEXt", new TextEncoder().encode(`${keyword}\0${escaped}`)));
  }
  chunks.push(chunk("IDAT", pixels), chunk("IEND", new Uint8Array(0)));
  return new Blob([new Uint8Array(SIGNATURE), ...chunks], { type: "image/png" });
}

/** Return rows of pixels, less what Paeth's filter predicts, each after the filter's number. */
function filtered({ height, width, data }, channels) {
  const length = width * channels;
  const rows = new Uint8Array(height * (length + 1));
  let [above, row] = [new Uint8Array(length), new Uint8Array(length)];
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, i = 0; x < width; x++) {
      for (let c = 0; c < channels; c++, i++) row[i] = data[4 * (y * width + x) + c];
    }
    rows[to++] = PAETH;
    for (let i = 0; i < length; i++) {
      const [left, corner] = i < channels ? [0, 0] : [row[i - channels], above[i - channels]];
      const guess = left + above[i] - corner;
      const [a, b, c] = [
        Math.abs(guess - left),
        Math.abs(guess - above[i]),
        Math.abs(guess - corner),
      ];
      rows[to++] = row[i] - (a <= b && a <= c ? left : b <= c ? above[i] : corner);
    }
    [above, row] = [row, above];
  }
  return rows;
}

/** Return a chunk: length, type, content and checksum. */
function chunk(type, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(content, 8);
  let crc = 0xffffffff;
  for (let i = 4; i < content.length + 8; i++)
    crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  view.setUint32(content.length + 8, ~crc);
  return bytes;
}
