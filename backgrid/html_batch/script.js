const table = document.getElementById("runs-table");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, row => ({
    row, words: Array.from(row.cells, cell => cell.textContent).join(" ").toLowerCase(),
  }));

  // sorting: equal ones keep their order, what has no value is last either way
  const heads = Array.from(table.tHead.rows[0].cells);
  const inWords = new Intl.Collator("en", { numeric: true });
  const key = (cell, number) => {
    const text = cell.dataset.v ?? (number ? "" : cell.textContent.trim());
    return text === "" ? null : number ? Number(text) : text;
  };
  const sort = (head, at) => {
    const before = head.getAttribute("aria-sort"), number = head.dataset.kind === "number";
    const down = before ? before === "ascending" : head.dataset.first === "descending";
    const compare = number ? (a, b) => a - b : inWords.compare;
    for (const entry of rows) entry.key = key(entry.row.cells[at], number);
    rows.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      return (down ? -1 : 1) * compare(a.key, b.key);
    });
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...rows.map(entry => entry.row));
  };
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, at));
    head.append(button);
  });

  // filtering: each word somewhere in the row
  const text = document.getElementById("filter"), status = document.getElementById("status");
  const count = document.getElementById("count");
  const filter = () => {
    const asked = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, words } of rows) {
      const wanted = status.value === "all" || row.dataset.status === status.value;
      row.hidden = !(wanted && asked.every(word => words.includes(word)));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = shown === rows.length ? "" : `${shown} of ${rows.length} runs shown`;
  };
  text.addEventListener("input", filter);
  status.addEventListener("change", filter);
}
