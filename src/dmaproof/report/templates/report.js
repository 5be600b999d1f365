(() => {
  const bar = document.querySelector(".filter");
  const rows = [...document.querySelectorAll(".tests tbody tr")];
  if (bar && rows.length) {
    const search = bar.querySelector("input[type=search]");
    const boxes = [...bar.querySelectorAll("input[type=checkbox]")];
    const shown = bar.querySelector("output");
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const apply = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const outcomes = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
      let count = 0;
      rows.forEach((row, at) => {
        const fits = outcomes.has(row.dataset.outcome) && words.every((word) => texts[at].includes(word));
        row.hidden = !fits;
        count += fits;
      });
      shown.textContent = `${count} of ${rows.length} shown`;
    };
    bar.addEventListener("input", apply);
    bar.hidden = false;
    apply();
  }
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
})();
