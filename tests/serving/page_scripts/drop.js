// Drops a file on the drop zone, like a mouse.
([data, name]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(data)], name, { type: "image/jpeg" }));
  document.getElementById("drop-zone").dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: transfer }));
}
