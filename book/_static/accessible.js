/* What style sheets cannot do: it depends on what a page measures, and on what its text says. */

(function () {
  const BOXES = ".bd-article pre, .bd-article table, .bd-article div.math, .bd-article mjx-container, " +
    ".bd-article .cell_output .output, .bd-article .cell_output div";

  /* A box that scrolls sideways must be reachable with the Tab key, or a reader without a mouse never sees its right
     half; one that does not scroll would be a stop for nothing. */
  function mark() {
    document.querySelectorAll(BOXES).forEach(box => {
      const scrolls = box.scrollWidth > box.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(box).overflowX);
      if (scrolls && !box.hasAttribute("tabindex")) {
        box.tabIndex = 0;
        box.dataset.scrolls = "";
      } else if (!scrolls && "scrolls" in box.dataset) {
        box.removeAttribute("tabindex");
        delete box.dataset.scrolls;
      }
    });
  }

  /* A heading with no text is read out as a blank heading of its column; an empty corner of a table heads nothing. */
  function unhead() {
    document.querySelectorAll(".bd-article th").forEach(head => {
      if (head.textContent.trim() || head.querySelector("img, mjx-container")) return;
      const cell = document.createElement("td");
      cell.className = head.className;
      head.replaceWith(cell);
    });
  }

  /* Paper is white, and a link on it cannot be followed: where the text is not the address, CSS prints it behind. */
  let theme = null;
  function onPaper() {
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    document.querySelectorAll(".bd-article a.external").forEach(link => {
      if (!/^(https?:|doi|arXiv)/i.test(link.textContent.trim())) link.dataset.address = link.href;
    });
  }

  let waiting = 0;
  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(mark, 100);
  }

  /* The search dialog is no landmark in the theme, and buttons that unfold a solution all have one name. */
  function name() {
    document.querySelector(".search-button__search-container")?.setAttribute("role", "search");
    document.querySelectorAll(".admonition-title > .toggle-button").forEach(button => {
      button.setAttribute("aria-label", "Show or hide: " + button.parentElement.textContent.trim());
    });
  }

  unhead();
  name();
  mark();
  addEventListener("load", () => { name(); mark(); });
  addEventListener("beforeprint", onPaper);
  addEventListener("afterprint", () => { document.documentElement.dataset.theme = theme; });
  addEventListener("resize", later);
  /* A click on a link in a title would be taken by sphinx-togglebutton for one on the title, and end in an error. */
  addEventListener("click", event => {
    if (event.target.closest(".admonition-title a")) event.stopPropagation();
  }, true);
  addEventListener("click", later); /* an unfolded solution may hold a wide box */
  addEventListener("toggle", later, true);
})();
