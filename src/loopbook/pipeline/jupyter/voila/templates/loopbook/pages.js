// A long table of a page is sorted by a click on a heading, or by Enter on it, and a
// slider is called as the label beside it. A page is an HTML widget, whose own scripts
// do not run; so this one waits for what appears.
(() => {
  const value = (row, place) => {
    const cell = row.children[place];
    const text = cell ? cell.textContent.trim() : "";
    const number = parseFloat(text.replace(/[, ]/g, "").replace("−", "-"));
    return { text, number: cell && cell.classList.contains("n") && !isNaN(number) ? number : null };
  };
  const compare = (a, b) =>
    a.number !== null && b.number !== null
      ? a.number - b.number
      : (a.number === null) - (b.number === null) || a.text.localeCompare(b.text);
  const sort = (heading) => {
    const place = [...heading.parentNode.children].indexOf(heading);
    const isDown = heading.getAttribute("aria-sort") === "ascending";
    const body = heading.closest("table").tBodies[0];
    const rows = [...body.rows].sort((a, b) => compare(value(a, place), value(b, place)));
    if (isDown) rows.reverse();
    body.append(...rows);
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
  };
  const prepare = () => {
    for (const heading of document.querySelectorAll(".lb table.sortable th[scope=col]:not(:has(button))")) {
      const button = document.createElement("button");
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(heading));
      heading.append(button);
    }
    for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])")) {
      const label = handle.closest(".jupyter-widgets")?.querySelector(".widget-label")?.textContent;
      if (label) handle.setAttribute("aria-label", label);
    }
  };
  new MutationObserver(prepare).observe(document, { childList: true, subtree: true });
})();
