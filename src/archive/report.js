const bar = document.getElementById("filter");
const [text, state] = bar.querySelectorAll("input, select");
const found = bar.querySelector("output");
const boxes = document.querySelectorAll("section, .folder, details.group");
const lists = [...document.querySelectorAll("details.group")].map((list) => [list, list.open]);
const items = [...document.querySelectorAll(".item")].map((item) => {
  const title = item.closest("details.group")?.querySelector("summary").firstChild.textContent ?? "";
  // A film's figures are not to be found: any number would be in most of them.
  const film = [item.dataset.source, ...[...item.querySelectorAll("li")].map((line) => line.textContent)];
  const words = item.dataset.source ? film.join(" ") : `${title} ${item.textContent}`;
  return { item, words: words.toLowerCase(), state: item.closest("section").id };
});
const filter = () => {
  const words = text.value.toLowerCase().split(/\s+/);
  const fits = (item) => (!state.value || item.state === state.value) && words.every((word) => item.words.includes(word));
  let number = 0;
  for (const item of items) {
    item.item.hidden = !fits(item);
    number += !item.item.hidden;
  }
  for (const box of boxes) box.hidden = !box.querySelector(".item:not([hidden])");
  for (const [list, open] of lists) list.open = open || text.value.trim() !== "";
  found.textContent = number < items.length ? `${number} of ${items.length}` : "";
};
bar.hidden = false;
bar.oninput = filter;
filter();
