// Says what is wrong with a page, as a list of sentences.
(() => {
  const wrong = [];
  const check = (ok, ...words) => { if (!ok) wrong.push(words.join(" ")); };
  const width = document.documentElement.clientWidth;
  const name = (e) => `${e.tagName} ${e.id || e.getAttribute("class") || ""} "${(e.textContent || "").trim().slice(0, 40)}"`;
  for (const d of document.querySelectorAll("details")) d.open = true;

  check(document.documentElement.scrollWidth <= width, "the page is", document.documentElement.scrollWidth, "wide, and the window", width);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  check(new Set(ids).size === ids.length, "ids are there twice");
  check(document.querySelectorAll("script, iframe, object, embed, img, [onclick], [onload]").length === 0, "there is more than text and drawings");

  const links = [...document.querySelectorAll("a")];
  check(links.length > 0, "there are no links");
  for (const a of links) {
    const href = a.getAttribute("href");
    check(href.startsWith("#") && document.getElementById(href.slice(1)), "nothing is at", href);
  }

  const charts = [...document.querySelectorAll("svg.chart")];
  check(charts.length > 0, "there are no charts");
  for (const svg of charts) {
    const box = svg.getBoundingClientRect();
    check(box.width > 100 && box.height > 10, name(svg), "is", box.width, "by", box.height);
    check(box.left >= 0 && box.right <= width, name(svg), "is from", box.left, "to", box.right, "in", width);
    const about = (svg.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id));
    check(["img", "group"].includes(svg.getAttribute("role")) && about.length === 2 && about.every((e) => e && e.textContent.trim()), name(svg), "has no name");
    const texts = [...svg.querySelectorAll("text")].map((e) => [e, e.getBoundingClientRect()]);
    texts.forEach(([e, a], i) => {
      check(a.height >= 8, name(e), "is too small:", a.height);
      check(a.left >= 0 && a.right <= width, name(e), "is cut off");
      for (const [f, b] of texts.slice(i + 1)) {
        check(a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 2 || b.bottom <= a.top + 2, name(e), "is on", name(f));
      }
    });
    for (const e of svg.querySelectorAll("polygon, polyline, rect, path")) {
      const b = e.getBoundingClientRect();
      check(b.left >= box.left - 6 && b.right <= box.right + 6 && b.top >= box.top - 6 && b.bottom <= box.bottom + 6, name(e), "is outside");
    }
  }

  const tables = [...document.querySelectorAll("table")];
  check(tables.length > 0, "there are no tables");
  for (const table of tables) {
    const scroll = table.closest(".scroll");
    const box = scroll.getBoundingClientRect();
    check(box.left >= 0 && box.right <= width, name(scroll), "is cut off");
    check(["auto", "scroll"].includes(getComputedStyle(scroll).overflowX) && scroll.tabIndex === 0, name(scroll), "does not scroll");
    check(table.caption && table.caption.textContent.trim(), "a table has no caption");
    for (const row of table.rows) check(row.cells.length === table.rows[0].cells.length, "a row lacks cells");
    for (const td of table.querySelectorAll("td.number")) {
      check(getComputedStyle(td).fontVariantNumeric.includes("tabular-nums"), "figures are not of one width");
    }
  }

  const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
  const luminance = (c) => {
    const [r, g, b] = parse(c).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      const [, , , alpha = 1] = parse(c);
      if (alpha > 0) return c;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  let texts = 0;
  for (const e of document.body.querySelectorAll("*")) {
    const style = getComputedStyle(e);
    const own = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    const drawn = e.closest("svg");
    if (own && (!drawn || e.tagName === "text")) {
      texts++;
      const ratio = contrast(drawn ? style.fill : style.color, background(e));
      check(ratio >= 4.5, name(e), "has a contrast of", ratio.toFixed(2));
    } else if (e.matches(".line, .marker, .bar")) {
      const ratio = contrast(e.matches(".line") ? style.stroke : style.fill, background(e));
      check(ratio >= 3, name(e), "has a contrast of", ratio.toFixed(2));
    }
  }
  check(texts > 100, "there is no text");
  return [...new Set(wrong)];
})()
