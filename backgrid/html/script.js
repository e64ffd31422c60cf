const code = document.getElementById("code-toggle");
code.addEventListener("click", () => {
  const shown = root.classList.toggle("show-code");
  code.textContent = shown ? "Hide code" : "Show code";
});

// A drawing that carries its readings (plot.py writes them) is read out bar by bar: by mouse and finger on the drawing,
// by keyboard on the slider below it.
const numbers = (text) => (text || "").split(" ").map(Number);
const running = (steps, unit) => {
  let sum = steps[0];
  return steps.map((step, place) => place ? sum += step * unit : sum);
};
const minus = (text) => text.replace("-", "\u2212");
const money = (value) => minus(value.toLocaleString("en-US", {
  minimumFractionDigits: Math.abs(value) < 1000 ? 2 : 0, maximumFractionDigits: Math.abs(value) < 1000 ? 2 : 0,
}));

function create(name, attributes, space = "http://www.w3.org/1999/xhtml") {
  const element = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function makeReadable(svg) {
  const data = svg.dataset, holder = svg.parentNode, drawn = svg.viewBox.baseVal.width;
  const bars = running(numbers(data.bars), 1), times = running(numbers(data.times), Number(data.unit));
  const [account, benchmark, drawdown] = [data.account, data.benchmark, data.drawdown].map(numbers);
  const [left, right, top, bottom, end] = numbers(data.frame), [low, high, floor, ceiling] = numbers(data.scale);
  const whole = [bars, times, account, benchmark, drawdown].every((of) => of.length === bars.length && of.every(isFinite));
  if (!whole || times.some((time) => Math.abs(time) > 8e12)) return;  // no drawing of ours

  const place = (at) => left + (right - left) * bars[at] / end;
  const height = (value) => floor + (ceiling - floor) * Math.log(value / low) / Math.log(high / low);
  const marks = create("g", {class: "cursor", visibility: "hidden"}, svg.namespaceURI);
  const rule = create("line", {y1: top, y2: bottom}, svg.namespaceURI);
  const dots = ["theirs", "ours"].map((kind) => create("circle", {class: kind, r: 3}, svg.namespaceURI));
  marks.append(rule, ...dots);
  svg.append(marks);
  const said = create("p", {class: "readout", "aria-hidden": true});  // the slider says it to those who do not see it
  const slider = create("input", {class: "reader", type: "range", max: bars.length - 1, "aria-label": "Bar to read"});
  slider.value = bars.length - 1;
  holder.before(said);
  holder.after(slider);

  const show = () => {
    const at = slider.valueAsNumber, x = place(at), clock = new Date(times[at] * 1000).toISOString();
    const words = [
      ["", clock.replace("T", " ").slice(0, Number(data.digits)), "when"],
      [data.name || "strategy", money(account[at]), "ours"],
      [data.against || "benchmark", money(benchmark[at]), "theirs"],
      ["drawdown", minus(`${(drawdown[at] / 10).toFixed(1)}\u202f%`), "lost"],
    ];
    said.replaceChildren(...words.flatMap(([name, value, kind]) => {
      const part = create("span", {class: kind}), number = create("b", {});
      number.textContent = value;
      part.append(...(name ? [`${name} `, number] : [number]));
      return [part, " "];
    }));
    slider.setAttribute("aria-valuetext", words.map(([name, value]) => `${name} ${value}`.trim()).join(", "));
    for (const key of ["x1", "x2"]) rule.setAttribute(key, x);
    [benchmark[at], account[at]].forEach((value, which) => {
      dots[which].setAttribute("cx", x);
      dots[which].setAttribute("cy", value > 0 ? height(value) : floor);
    });
  };
  const use = () => { marks.setAttribute("visibility", "visible"); show(); };
  const point = (event) => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * drawn;
    const after = bars.findIndex((_, at) => place(at) >= x), at = after < 0 ? bars.length - 1 : after;
    slider.value = at && x - place(at - 1) < place(at) - x ? at - 1 : at;
    use();
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  slider.addEventListener("input", () => {
    use();
    holder.scrollLeft = place(slider.valueAsNumber) / drawn * svg.clientWidth - holder.clientWidth / 2;
  });
  show();
}
document.querySelectorAll("svg[data-bars]").forEach(makeReadable);
