// The browser of images: sorts, filters and enlarges what the element "browser-data" holds (reports/image_browser.py).
"use strict";
(() => {
  const STEP = 48; // tiles that are drawn at once
  const { candidates, pairs, rows } = JSON.parse(document.getElementById("browser-data").textContent);
  const part = (name) => document.getElementById(`browser-${name}`);
  const [browser, sort, reverse, mask, tiles, more, view] =
    ["box", "sort", "reverse", "mask", "tiles", "more", "view"].map(part);
  const score = (value) => (value === null ? "\u2013" : value.toFixed(3));
  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(3);
  const change = (row, [a, b]) => (row.dice[a] === null || row.dice[b] === null ? null : row.dice[a] - row.dice[b]);
  const orders = []; // [group of options, name, key of a row: lower comes first, null last]
  for (const pair of pairs) {
    const [a, b] = pair.map((place) => candidates[place]);
    orders.push(["Difference", `${a} and ${b} differ most`, (row) => -Math.abs(change(row, pair) ?? NaN), pair]);
    orders.push(["Difference", `${a} is better than ${b}`, (row) => -(change(row, pair) ?? NaN), pair]);
    orders.push(["Difference", `${b} is better than ${a}`, (row) => change(row, pair) ?? NaN, pair]);
  }
  candidates.forEach((name, place) => orders.push(["Dice", `${name} is worst`, (row) => row.dice[place] ?? NaN]));
  orders.push(["Name", "name", null]);
  let shown = []; // rows that pass the filters, in order
  let drawn = 0; // tiles so far
  let open = -1; // place in `shown` of the enlarged image

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function options(select, names) {
    for (const [group, name, value] of names) {
      let parent = select;
      if (group) {
        parent = [...select.children].find((child) => child.label === group);
        if (!parent) select.append((parent = element("optgroup", { label: group })));
      }
      parent.append(element("option", { value }, name));
    }
  }

  function filter(name, values, all) {
    const select = part(name);
    const sorted = [...new Set(values)].sort(new Intl.Collator("en", { numeric: true }).compare);
    options(select, [["", all, ""], ...sorted.map((value) => ["", value, value])]);
    select.closest("label").hidden = sorted.length < 2;
    select.addEventListener("change", update);
    return select;
  }

  function stack(image, over, alt, kind = "") {
    const box = element("span", { class: `stack ${kind}` });
    if (image) box.append(element("img", { src: image, alt }));
    if (over) box.append(element("img", { src: over, alt: image ? "" : alt, class: "over" }));
    return box;
  }

  function describe(row) {
    const scores = candidates.map((name, place) => `${name} ${score(row.dice[place])}`);
    return `${row.id}, ${row.subset}, group ${row.group}, ${row.modality}: Dice ${scores.join(", ")}`;
  }

  function tile(row, place) {
    const pictures = row.pictures;
    const photo = element("span", { class: "photo" });
    if (pictures) {
      const over = mask.value === "truth" ? pictures.truth : pictures.masks[Number(mask.value)];
      photo.append(stack(pictures.image, over, describe(row)));
    } else photo.append("no picture");
    const pair = orders[Number(sort.value)][3];
    const difference = pair ? change(row, pair) : null;
    const caption = element("span", { class: "caption" }, element("span", { class: "name", title: row.id }, row.id));
    candidates.forEach((name, at) => {
      caption.append(element("span", { class: "score" }, element("span", {}, name), score(row.dice[at])));
    });
    if (difference !== null) {
      caption.append(element("span", { class: "score" }, element("span", {}, "difference"), signed(difference)));
    }
    const button = element("button", { type: "button", class: "shot", "data-place": place }, photo, caption);
    button.addEventListener("click", () => enlarge(place));
    return button;
  }

  function draw() {
    const next = shown.slice(drawn, drawn + STEP);
    tiles.append(...next.map((row, at) => tile(row, drawn + at)));
    drawn += next.length;
    more.hidden = drawn >= shown.length;
    more.textContent = `Show ${Math.min(STEP, shown.length - drawn)} more`;
  }

  function update() {
    const key = orders[Number(sort.value)][2];
    const keys = new Map(rows.map((row) => [row, key ? key(row) : 0]));
    const [subset, group, modality, kind] = filters.map((select) => select.value);
    shown = rows.filter((row) => (!subset || row.subset === subset) && (!group || row.group === group)
      && (!modality || row.modality === modality) && (!kind || row.classes.includes(kind)));
    const turn = reverse.checked ? -1 : 1;
    shown.sort((a, b) => Number.isNaN(keys.get(a)) - Number.isNaN(keys.get(b))
      || turn * (keys.get(a) - keys.get(b)) || turn * (a.id < b.id ? -1 : a.id > b.id ? 1 : 0) || 0);
    part("count").textContent = `${shown.length} of ${rows.length} images`;
    tiles.replaceChildren();
    drawn = 0;
    draw();
  }

  function panel(name, box) {
    return element("figure", {}, box, element("figcaption", {}, name));
  }

  function enlarge(place) {
    if (place < 0 || place >= shown.length) return;
    open = place;
    while (drawn <= place) draw();
    const row = shown[place];
    const pictures = row.pictures;
    part("title").textContent = row.id;
    part("about").textContent =
      `${row.subset}, group ${row.group}, ${row.modality}, ${row.size} \u00b7 ${place + 1} of ${shown.length}`;
    const first = element("div", { class: "column" }, element("h3", {}, "source"));
    const columns = [first];
    if (pictures) {
      first.append(panel("image", stack(pictures.image, "", `image ${row.id}`)));
      first.append(panel("truth", stack(pictures.image, pictures.truth, `truth of ${row.id}`)));
    } else first.append(element("p", {}, "No picture of this image is in the page."));
    candidates.forEach((name, at) => {
      const column = element("div", { class: "column" }, element("h3", {}, `${name} ${score(row.dice[at])}`));
      if (pictures) {
        const alt = (what) => `${what} of ${name}, ${row.id}`;
        column.append(panel("prediction", stack(pictures.image, pictures.masks[at], alt("prediction"))));
        const errors = stack("", pictures.masks[at], alt("errors"), "bare");
        errors.style.aspectRatio = pictures.ratio;
        column.append(panel("errors", errors));
        const confidence = pictures.confidences[at];
        if (confidence) column.append(panel("confidence", stack(confidence, "", alt("confidence"))));
      }
      columns.push(column);
    });
    part("panels").style.setProperty("--ratio", pictures ? pictures.ratio : "1");
    part("panels").replaceChildren(...columns);
    part("previous").disabled = place === 0;
    part("next").disabled = place === shown.length - 1;
    if (!view.open) view.showModal();
  }

  function select(place) {
    while (drawn <= place && drawn < shown.length) draw();
    tiles.children[Math.max(0, Math.min(place, shown.length - 1))]?.focus();
  }

  function toggle() {
    part("overlay").checked = !part("overlay").checked;
    part("overlay").dispatchEvent(new Event("change"));
  }

  options(sort, orders.map(([group, name], place) => [group, name, place]));
  options(mask, [...candidates.map((name, place) => ["", name, place]), ["", "the truth", "truth"]]);
  const filters = [
    filter("subset", rows.map((row) => row.subset), "validation and test"),
    filter("group", rows.map((row) => row.group), "all groups"),
    filter("modality", rows.map((row) => row.modality), "all modalities"),
    filter("class", rows.flatMap((row) => row.classes), "all images"),
  ];
  for (const control of [sort, reverse, mask]) control.addEventListener("change", update);
  part("overlay").addEventListener("change", (event) => browser.classList.toggle("plain", !event.target.checked));
  more.addEventListener("click", draw);
  part("previous").addEventListener("click", () => enlarge(open - 1));
  part("next").addEventListener("click", () => enlarge(open + 1));
  part("close").addEventListener("click", () => view.close());
  view.addEventListener("close", () => select(open));
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("select, input:not([type=checkbox])");
    if (field || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowRight: 1, j: 1, ArrowLeft: -1, k: -1 }[event.key];
    const focused = event.target.closest(".shot");
    if (event.key === "o" && (view.open || browser.contains(event.target))) toggle();
    else if (step && view.open) enlarge(open + step);
    else if (step && focused) select(Number(focused.dataset.place) + step);
    else return;
    event.preventDefault();
  });
  browser.hidden = false;
  update();
})();
