// Files for download, made in the browser from the results on the page.
/** The table of `age-gender --csv` for one photo. `name`: of its file; `columns`: of the table; `error`: why there is no result. */
export function asCsv(result, name, columns, error = null) {
  const incomplete = {true: "True", false: "False"}[result.incomplete]; // as Python writes it
  const rows = result.faces.map((face, i) => {
    const [x, y, width, height] = face.box;
    return {...face, file: name, face: i + 1, x, y, width, height, incomplete};
  });
  return table(columns, rows.length ? rows : [{file: name, incomplete, error}]);
}

/** Objects as CSV, with the columns of these names. */
export function table(columns, rows) {
  // A text that no spreadsheet takes for a formula, also if it splits at semicolons; quoted where it must be.
  const cell = (value) => {
    const safe = typeof value === "string" ? value.replace(/(^|;)(?=[=+\-@\t\r\n])/g, "$1'") : value;
    const text = String(safe ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  // A byte order mark, without which spreadsheets misread letters beyond ASCII.
  return `\ufeff${lines.map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
}

export function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
