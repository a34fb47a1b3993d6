for (const button of document.querySelectorAll("button[data-sort]")) {
  button.onclick = () => {
    const list = document.getElementById("pictures");
    const sign = button.dataset.sort === "worst" ? -1 : 1;
    const sorted = [...list.children].sort((a, b) => sign * (a.dataset.error - b.dataset.error));
    list.append(...sorted);
  };
}
